// One row for each token that is todo or locked: ["todo", 0, what is in each of some fields…], with null for what is not there.
// One that waits for its next try has "later" there, and when its time comes, up to the next full minute.
// _count over them, with group=true, tells how many are alike.
function (doc) {
  if (doc.type !== "token") return;
  var where = state(doc), due = doc.picas && doc.picas.not_before, when = 0;
  if (where !== "todo" && where !== "locked") return;
  if (where === "todo" && typeof due === "number" && isFinite(due) && due > 0) {
    where = "later";
    when = Math.ceil(due / 60) * 60;
  }
  emit([where, when].concat(FIELDS.map(function (path) {
    var value = doc;
    for (var i = 0; i < path.length; i++) {
      var there = Object.prototype.toString.call(value) === "[object Object]" &&
        Object.prototype.hasOwnProperty.call(value, path[i]);
      if (!there || value[path[i]] === null) return null;
      value = value[path[i]];
    }
    return value;
  })), null);
}
