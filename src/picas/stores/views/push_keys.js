// Which line of which content each token was pushed from, so that pushing it again adds nothing.
function (doc) {
  if (doc.type === "token" && doc.picas && doc.picas.push) emit(doc.picas.push, null);
}
