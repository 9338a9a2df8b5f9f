// When each finished token ended, and how many seconds it took; _stats over a stretch of time gives rates.
function (doc) {
  if (doc.type !== "token" || !(doc.done > 0 || doc.done == -1) || !doc.lock) return;
  var run = doc.picas && doc.picas.run || {};
  emit(typeof run.ended === "number" ? run.ended : doc.done, typeof run.wall === "number" ? run.wall : 0);
}
