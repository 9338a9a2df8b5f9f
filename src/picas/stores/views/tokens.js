// One row for each token: [state, −priority, number at the end of the id].
// Claims walk the rows of "todo", the highest priority first; _count over the first part gives the states.
// A token that is todo and waits for its next try has "later" there, and one more row: ["due", 0, when its time comes].
// One more row, ["mend"], for a token with conflicting versions, or locked by a claim that was given up, or by who mends it.
// And one, ["other", 0, lock], for a token that another program has locked, such as picasclient 1.x.
function (doc) {
  if (doc.type !== "token") return;
  var priority = typeof doc.priority === "number" && isFinite(doc.priority) ? doc.priority : 0;
  var digits = /[0-9]{1,15}$/.exec(doc._id);
  var where = state(doc), due = doc.picas && doc.picas.not_before;
  if (where === "todo" && typeof due === "number" && isFinite(due) && due > 0) {
    where = "later";
    emit(["due", 0, due], null);
  }
  emit([where, -priority, digits ? +digits[0] : 0], null);
  var run = doc.picas && doc.picas.run || {};
  if (doc._conflicts || run.void || run.mends) emit(["mend"], null);
  var claimed = doc.picas && doc.picas.run && doc.picas.run.claimed;
  var ours = typeof claimed === "number" && Math.abs(claimed - number(doc.lock)) <= 1;
  if (typeof doc.lock === "number" && doc.lock > 99 && !ours) emit(["other", 0, doc.lock], null);
}
