"""Methods: how a support set becomes a classifier. One file a method."""
