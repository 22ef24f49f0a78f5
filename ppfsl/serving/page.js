"use strict";

const TEXTS = {
  en: {
    title: "A few pictures per class, then ask",
    intro: "Name two classes or more, give each a few pictures, press the button, and show it new ones.",
    support: "1. Classes and their pictures", className: "Name of a class", addClass: "Add class", build: "2. Build the classifier",
    ask: "3. New pictures", footer: "Pictures stay in the memory of this computer's server and are forgotten when the page is closed.",
    drop: "Drop pictures here, or", choose: "choose files", removeClass: "Remove class", removePicture: "Remove picture",
    working: "Working…", unlike: "none of these? most like", nearest: "Most similar:", first: "Build the classifier first.",
    built: (b) => `${b.classes.length} classes. ` + (b.left_out ? `Each picture asked with itself left out: ${b.right} of ${b.left_out} right. ` : "") +
      (b.rejection ? `Marked "none of these" below a similarity of ${b.rejection.threshold.toFixed(2)}.` : "Too few pictures to say when a new one is none of these."),
    keep: "Save the classifier as a file", stale: "The pictures have changed: build again.", other: "中文",
  },
  zh: {
    title: "每类几张图片，然后提问", intro: "给两个或更多类别取名，各放几张图片，按下按钮，再给它看新图片。",
    support: "1. 类别和图片", className: "类别名称", addClass: "添加类别", build: "2. 建立分类器", ask: "3. 新图片",
    footer: "图片只留在本机服务器的内存里，关闭页面后即被清除。", drop: "把图片拖到这里，或", choose: "选择文件",
    removeClass: "删除类别", removePicture: "删除图片", working: "正在处理……", unlike: "都不是？最像", nearest: "最相似的：", first: "请先建立分类器。",
    built: (b) => `${b.classes.length} 个类别。` + (b.left_out ? `每张图片在排除自身后提问：${b.left_out} 张中答对 ${b.right} 张。` : "") +
      (b.rejection ? `相似度低于 ${b.rejection.threshold.toFixed(2)} 时标为“都不是”。` : "图片太少，无法判断新图片是否都不属于这些类别。"),
    keep: "把分类器存成文件", stale: "图片有变化，请重新建立。", other: "English",
  },
};

let language = navigator.language.startsWith("zh") ? "zh" : "en";
let session = null;
let built = null; // what the server said of the classifier
let stale = false; // whether pictures have changed since
const classes = new Map(); // label -> Map of number -> object URL
const element = (id) => document.getElementById(id);
const text = (key) => TEXTS[language][key];

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

async function call(method, path, body) {
  if (session === null) {
    const answer = await fetch("/api/sessions", { method: "POST" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    session = (await answer.json()).session;
  }
  const answer = await fetch(path, { method, body, headers: { "X-Session": session } });
  if (answer.status === 204) return null;
  if (answer.headers.get("Content-Type") === "application/octet-stream") return answer.blob();
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error || answer.statusText);
  return value;
}

async function working(action) {
  element("problem").textContent = "";
  document.body.setAttribute("aria-busy", "true");
  element("built").textContent = text("working");
  try {
    await action();
  } catch (error) {
    element("problem").textContent = error.message;
  }
  document.body.removeAttribute("aria-busy");
  show();
}

function upload(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  return form;
}

// Few enough at once for what the server takes in a request, however many a person drops.
function groups(files) {
  const found = [];
  let bytes = 0;
  for (const file of files) {
    bytes += file.size;
    if (!found.length || found.at(-1).length >= 20 || bytes > 40e6) { found.push([]); bytes = file.size; }
    found.at(-1).push(file);
  }
  return found;
}

function dropZone(node, onFiles) {
  const input = make("input", { type: "file", multiple: true, accept: "image/*", hidden: true });
  input.addEventListener("change", () => { onFiles([...input.files]); input.value = ""; });
  const button = make("button", { type: "button", textContent: text("choose") });
  button.addEventListener("click", () => input.click());
  node.replaceChildren(text("drop"), " ", button, input);
  node.ondragover = (event) => { event.preventDefault(); node.classList.add("over"); };
  node.ondragleave = () => node.classList.remove("over");
  node.ondrop = (event) => { event.preventDefault(); node.classList.remove("over"); onFiles([...event.dataTransfer.files]); };
}

function addPictures(label, files) {
  return working(async () => {
    const refused = [];
    for (const some of groups(files)) {
      const answers = await call("POST", `/api/pictures?label=${encodeURIComponent(label)}`, upload(some));
      refused.push(...answers.filter((answer) => answer.error));
      answers.forEach((answer, place) => {
        if (answer.number) classes.get(label).set(answer.number, URL.createObjectURL(some[place]));
      });
      stale = true;
    }
    if (refused.length) throw new Error(refused.map((answer) => `${answer.picture}: ${answer.error}`).join("; "));
  });
}

function removePictures(label, numbers) {
  return working(async () => {
    for (const number of numbers) {
      await call("DELETE", `/api/pictures/${number}`);
      classes.get(label).delete(number);
    }
    stale = true;
  });
}

function showClass(label, pictures) {
  const shown = make("div", { className: "pictures" });
  for (const [number, url] of pictures) {
    const button = make("button", { type: "button", textContent: "×", title: text("removePicture") });
    button.setAttribute("aria-label", text("removePicture"));
    button.addEventListener("click", () => removePictures(label, [number]));
    shown.append(make("figure", {}, make("img", { src: url, alt: label }), button));
  }
  const zone = make("div", { className: "drop" });
  dropZone(zone, (files) => files.length && addPictures(label, files));
  const remove = make("button", { type: "button", className: "quiet", textContent: text("removeClass") });
  remove.addEventListener("click", async () => {
    await removePictures(label, [...pictures.keys()]);
    classes.delete(label);
    show();
  });
  return make("div", { className: "class" }, make("h3", { textContent: label }), zone, shown, remove);
}

function show() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = text(node.dataset.text);
  element("language").textContent = text("other");
  element("classes").replaceChildren(...[...classes].map(([label, pictures]) => showClass(label, pictures)));
  element("build").disabled = [...classes.values()].filter((pictures) => pictures.size).length < 2;
  element("keep").hidden = built === null || stale;
  element("built").textContent = built === null ? "" : stale ? text("stale") : text("built")(built);
  dropZone(element("ask"), (files) => files.length && ask(files));
}

function urlOf(number) {
  for (const pictures of classes.values()) if (pictures.has(number)) return pictures.get(number);
  return "";
}

function showAnswer(answer, file) {
  const picture = make("img", { src: URL.createObjectURL(file), alt: file.name });
  if (answer.error) return make("div", { className: "answer" }, picture, make("p", { textContent: `${file.name}: ${answer.error}` }));
  const label = make("p", { className: "label", textContent: answer.unlike ? `${text("unlike")} ${answer.label}` : answer.label });
  if (answer.unlike) label.classList.add("unlike");
  const bars = Object.entries(answer.probabilities).slice(0, 3).map(([name, share]) =>
    make("div", { className: "bar" }, make("span", { textContent: name }),
      make("meter", { min: 0, max: 1, value: share }), make("span", { textContent: `${(100 * share).toFixed(1)} %` })));
  const near = make("div", { className: "near" }, text("nearest"));
  for (const one of answer.nearest) {
    near.append(make("img", { src: urlOf(one.number), alt: one.label }), `${one.label} ${one.similarity.toFixed(2)}`);
  }
  return make("div", { className: "answer" }, picture, make("div", {}, label, ...bars, near));
}

function ask(files) {
  if (built === null) { element("problem").textContent = text("first"); return; }
  return working(async () => {
    const shown = [];
    for (const some of groups(files)) {
      const answers = await call("POST", "/api/answers", upload(some));
      const next = answers.map((answer, place) => showAnswer(answer, some[place]));
      if (shown.length) shown.at(-1).after(...next);
      else element("answers").prepend(...next);
      shown.push(...next);
    }
  });
}

element("new-class").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = element("class-name").value.trim();
  if (label && !classes.has(label)) classes.set(label, new Map());
  element("class-name").value = "";
  show();
});
element("build").addEventListener("click", () => working(async () => {
  built = await call("POST", "/api/classifier");
  stale = false;
}));
element("keep").addEventListener("click", () => working(async () => {
  const url = URL.createObjectURL(await call("GET", "/api/classifier"));
  make("a", { href: url, download: "classifier.safetensors" }).click();
  URL.revokeObjectURL(url);
}));
element("language").addEventListener("click", () => { language = language === "en" ? "zh" : "en"; show(); });
window.addEventListener("pagehide", () => {
  if (session !== null) fetch("/api/session", { method: "DELETE", headers: { "X-Session": session }, keepalive: true });
});
show();
