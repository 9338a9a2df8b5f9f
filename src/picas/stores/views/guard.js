// What members of the database may do to its tokens; administrators of the server or of the database may do all.
// - A lock is set in one's own name, picas.run.user. While it holds, nobody else changes the token, but for late
//   results: they are added to its history and its files.
// - An account with the role picas-pilot claims tokens and finishes them, and does nothing else: it adds none,
//   removes none, and changes nothing in what is to be done.
// Design documents are the administrators' by CouchDB's own rule.
function (newDoc, oldDoc, userCtx, secObj) {
  var WRITTEN = "fields that pilots write";
  var me = userCtx.name;
  var old = oldDoc && !oldDoc._deleted ? oldDoc : null;

  function has(list, item) { return !!list && list.indexOf(item) >= 0; }

  function isAdmin() {
    var admins = secObj && secObj.admins || {};
    return has(userCtx.roles, "_admin") || has(admins.names, me) ||
      userCtx.roles.some(function (role) { return has(admins.roles, role); });
  }

  function forbid(why) { throw({forbidden: "PiCaS guard: " + why}); }

  function ours(doc) { return doc.picas && typeof doc.picas === "object" ? doc.picas : {}; }

  function run(doc) { var run = ours(doc).run; return run && typeof run === "object" ? run : {}; }

  function locked(doc) { return !!doc && doc.lock > 0 && doc.done == 0; }

  function free(doc) { return doc.lock == 0 && doc.done == 0; }

  function keys(one, other, but) {
    return Object.keys(one).concat(Object.keys(other)).filter(function (name) { return !has(but, name); });
  }

  function same(one, other) {
    if (one === other) return true;
    if (!one || !other || typeof one !== "object" || typeof other !== "object") return false;
    return Array.isArray(one) === Array.isArray(other) && sameBut(one, other, []);
  }

  function sameBut(one, other, but) {
    return keys(one, other, but).every(function (name) {
      return one.hasOwnProperty(name) && other.hasOwnProperty(name) && same(one[name], other[name]);
    });
  }

  // One entry more, and maybe as many fewer at the beginning as it may have no more of.
  function isLonger(before, after) {
    var gone = before.length + 1 - after.length;
    return gone >= 0 && gone <= 1 && after.slice(0, -1).every(function (entry, i) {
      return same(entry, before[i + gone]);
    });
  }

  function isNoted(before, after) {
    var files = before._attachments || {}, now = after._attachments || {};
    return sameBut(before, after, ["_rev", "_revisions", "_attachments", "picas"]) &&
      sameBut(ours(before), ours(after), ["history"]) &&
      isLonger(ours(before).history || [], ours(after).history || []) &&
      Object.keys(files).every(function (name) { return now[name] && now[name].digest === files[name].digest; });
  }

  function checkPilot() {
    if (!old) forbid("this account runs tokens; it adds none");
    if (newDoc._deleted) forbid("this account runs tokens; it removes none");
    if (newDoc.type !== old.type) forbid("a token stays one");
    keys(old, newDoc, WRITTEN).forEach(function (name) {
      if (name.charAt(0) !== "_" && !same(old[name], newDoc[name])) {
        forbid("this account runs tokens; it does not change their " + name);
      }
    });
    ["push", "signature"].forEach(function (name) {
      if (!same(ours(old)[name], ours(newDoc)[name])) forbid("who pushed the token, or signed it, is no pilot's to say");
    });
    if (locked(old) || isNoted(old, newDoc)) return;
    if (free(old) ? !free(newDoc) && !locked(newDoc) : run(old).user !== me) {
      forbid("this account ends only what it has claimed");
    }
  }

  if (isAdmin()) return;
  var isPilot = has(userCtx.roles, "picas-pilot");
  if (newDoc.type !== "token" && !(old && old.type === "token")) {
    // The other kind is written by picas check, to see whether it may write.
    if (isPilot && (newDoc._deleted ? old && old.type : newDoc.type) !== "picas-check") {
      forbid("this account runs tokens; it writes nothing else");
    }
    return;
  }
  if (locked(old) && run(old).user !== undefined && run(old).user !== me) {
    if (newDoc._deleted || !isNoted(old, newDoc)) forbid("the token is held by " + run(old).user);
    return;
  }
  if (!newDoc._deleted && locked(newDoc) && run(newDoc).user !== me && !(locked(old) && run(newDoc).mends)) {
    forbid("a token is locked in one's own name, as newer versions of PiCaS do it");
  }
  if (isPilot) checkPilot();
}
