// One row for each token: [state, −priority, number at the end of the id].
// Claims walk the rows of "todo", the highest priority first; _count over the first part gives the states.
function (doc) {
  if (doc.type !== "token") return;
  var state = null;
  if (doc.lock == 0 && doc.done == 0) state = "todo";
  else if (doc.lock > 0 && doc.done == 0) state = "locked";
  else if (doc.lock > 0 && doc.done > 0) state = parseInt(doc.exit_code) == 0 ? "done" : "error";
  else if (doc.lock == -1 && doc.done == -1) state = "error";
  var priority = typeof doc.priority === "number" ? doc.priority : 0;
  var number = /[0-9]{1,15}$/.exec(doc._id);
  emit([state, -priority, number ? +number[0] : 0], null);
}
