// Where a token stands, by its lock, done and exit_code; null for nowhere. The rules of picas.tokens.state_of.
function state(doc) {
  var lock = number(doc.lock), done = number(doc.done);
  if (lock == 0 && done == 0) return "todo";
  if (lock > 0 && done == 0) return "locked";
  if (lock > 0 && done > 0) return succeeded(doc.exit_code) ? "done" : "error";
  return lock == -1 && done == -1 ? "error" : null;
}

// What == and > compare with. An object that cannot become a number throws, and a map that throws hides the token.
function number(value) {
  try {
    return value === null ? NaN : Number(value);
  } catch (error) {
    return NaN;
  }
}

function succeeded(exit_code) {
  try {
    return parseInt(exit_code) == 0;
  } catch (error) {
    return false;
  }
}
