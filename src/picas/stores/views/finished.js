// When each finished token ended: [1, wall seconds, 1], or [1, 0, 0] where nobody has told how long it took.
// _sum over a stretch of time gives how many finished in it, and the mean of their times.
function (doc) {
  if (doc.type !== "token") return;
  var where = state(doc);
  if (where !== "done" && where !== "error") return;
  var run = doc.picas && doc.picas.run || {};
  var ended = typeof run.ended === "number" && isFinite(run.ended) && run.ended;
  var told = typeof run.wall === "number" && isFinite(run.wall);
  emit(ended || Math.max(0, number(doc.done)), [1, told ? run.wall : 0, told ? 1 : 0]);
}
