"""Operators of Paddle that are replaced for a while, in one thread."""

import threading

import paddle
import paddle.nn.functional as F
import pytest
from paddle import _C_ops

from ppfsl import exchange
from ppfsl.autodiff import twice_differentiable_operators
from ppfsl.exchange import Exchange, native
from ppfsl.onednn import fast_operators


@pytest.fixture(autouse=True)
def _own(monkeypatch):
    """What a test registers is forgotten, and everything is as Paddle made it before and after."""
    everything = {name: getattr(_C_ops, name) for name in dir(_C_ops)}
    kept = dict(native)
    monkeypatch.setattr(exchange, "_exchanges", list(exchange._exchanges))
    yield
    assert {name: getattr(_C_ops, name) for name in dir(_C_ops)} == everything
    assert exchange._contexts == 0
    for name in set(native) - set(kept):
        del native[name]


def giving(number: float, name: str = "sin", wanted=lambda *_, **__: True, rank: int = 0) -> Exchange:
    return Exchange({name: lambda *_, **__: paddle.to_tensor(number)}, wanted, rank)


def sine(x: float = 0.0) -> float:
    return paddle.sin(paddle.to_tensor(x)).item()


def test_an_operator_is_replaced_within_the_context_alone():
    replaced = giving(7.0)
    assert sine() == 0.0
    with replaced():
        assert sine() == 7.0
        assert paddle.to_tensor(0.0).sin().item() == 7.0
        assert paddle.cos(paddle.to_tensor(0.0)).item() == 1.0
    assert sine() == 0.0


def test_what_is_not_wanted_stays_paddles():
    calls = []

    def wanted(x, **keywords):
        calls.append(keywords)
        return x.item() > 0

    with giving(7.0, wanted=wanted)():
        assert (sine(0.0), sine(1.0)) == (0.0, 7.0)
    assert len(calls) == 2


def test_arguments_and_results_are_passed_on():
    seen = []

    def spy(*arguments, **keywords):
        seen.append((len(arguments), keywords))
        return "result"

    x = paddle.to_tensor([-1.0, 2.0])
    with Exchange({"leaky_relu": spy}, lambda *_, **__: True, 0)():
        assert F.leaky_relu(x, 0.5) == "result"
        assert _C_ops.leaky_relu(x, negative_slope=0.25) == "result"
    assert seen == [(2, {}), (1, {"negative_slope": 0.25})]
    with Exchange({"leaky_relu": spy}, lambda *_, **__: False, 0)():
        assert F.leaky_relu(x, 0.5).tolist() == [-0.5, 2.0]


def test_contexts_nest():
    replaced = giving(7.0)
    with replaced():
        with replaced():
            assert sine() == 7.0
        assert sine() == 7.0
    assert sine() == 0.0


def test_contexts_of_several_exchanges_nest():
    sines, cosines = giving(7.0), giving(8.0, "cos")
    with sines():
        with cosines():
            assert (sine(), paddle.cos(paddle.to_tensor(0.0)).item()) == (7.0, 8.0)
        assert (sine(), paddle.cos(paddle.to_tensor(0.0)).item()) == (7.0, 1.0)


@pytest.mark.parametrize("made", [(1, 2), (2, 1)], ids=["low first", "high first"])
@pytest.mark.parametrize("entered", [(1, 2), (2, 1)], ids=["low outside", "high outside"])
def test_the_highest_rank_counts_whichever_came_first(made, entered):
    ranked = {rank: giving(float(rank), rank=rank) for rank in made}
    with ranked[entered[0]]():
        assert sine() == entered[0]
        with ranked[entered[1]]():
            assert sine() == 2.0
        assert sine() == entered[0]


def test_a_lower_rank_counts_where_the_highest_does_not_want():
    high, low = giving(2.0, wanted=lambda x: x.item() > 0, rank=2), giving(1.0, rank=1)
    with high(), low():
        assert (sine(0.0), sine(1.0)) == (1.0, 2.0)


@pytest.mark.parametrize("outer", ["cos", "sin"])
def test_an_exchange_made_within_a_context_counts_too(outer):
    with giving(8.0, outer)():
        late = giving(7.0, rank=1)
        assert sine() == (8.0 if outer == "sin" else 0.0)
        with late():
            assert sine() == 7.0
    assert sine() == 0.0


def test_names_that_this_paddle_lacks_are_left_out():
    with Exchange({"of_tomorrow": sine, "sin": lambda _: paddle.to_tensor(7.0)}, lambda *_: True, 0)():
        assert sine() == 7.0
        assert not hasattr(_C_ops, "of_tomorrow")


@pytest.mark.parametrize(
    "context", [lambda: giving(7.0)(), fast_operators, twice_differentiable_operators], ids=["own", "fast", "twice"]
)
def test_everything_is_restored_when_an_exception_passes(context):
    for _ in range(2):
        with pytest.raises(KeyError), context():
            raise KeyError
        for name, operator in native.items():
            assert getattr(_C_ops, name) is operator
    with context():
        pass


def test_an_exception_in_an_inner_context_leaves_the_outer_one():
    replaced = giving(7.0)
    with replaced():
        with pytest.raises(KeyError), replaced():
            raise KeyError
        assert sine() == 7.0
    assert sine() == 0.0


def test_a_replacement_that_fails_leaves_the_context_as_it_was():
    def fail(_):
        raise KeyError

    with Exchange({"sin": fail}, lambda *_: True, 0)():
        for _ in range(2):
            with pytest.raises(KeyError):
                sine()
    assert sine() == 0.0


def in_thread(function) -> list:
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results


def test_other_threads_keep_paddles_own():
    replaced = giving(7.0)
    with replaced():
        assert in_thread(sine) == [0.0]

        def own_context():
            with replaced():
                inside = sine()
            return inside, sine()

        assert in_thread(own_context) == [(7.0, 0.0)]
        assert sine() == 7.0


def test_a_context_outlives_those_of_other_threads():
    """Whoever leaves last restores Paddle's operators."""
    replaced, entered, leave, results = giving(7.0), threading.Event(), threading.Event(), []

    def work():
        with replaced():
            entered.set()
            leave.wait()
            results.append(sine())

    thread = threading.Thread(target=work)
    with replaced():
        thread.start()
        entered.wait()
    assert sine() == 0.0
    leave.set()
    thread.join()
    assert results == [7.0]


def test_replaced_functions_keep_their_names_and_documentation():
    with giving(7.0)():
        assert _C_ops.sin.__name__ == native["sin"].__name__
        assert _C_ops.sin.__doc__ == native["sin"].__doc__


def test_both_exchanges_name_operators_that_exist():
    replaced = {name for each in exchange._exchanges for name in each.replacements}
    assert {"conv2d", "depthwise_conv2d", "pool2d", "batch_norm", "add", "relu", "flatten"} <= replaced <= set(native)
