// The label review page. Text from the data is set as text only, never as HTML.
"use strict";

const { labels, suspects: { suspects, earlier, tracklets } } = pageData;
const get = (id) => document.getElementById(id);
const question = get("question");
const store = `label-review-${question.dataset.review}`;
const stored = new Map(labels.map(([track, pid, camid, frames]) => [track, { pid, camid, frames }]));

// decisions: track id -> [identity, second identity, name of the action]; skipped: track ids;
// history: for every step the question shown, and its changes as [track id, decision before, whether it was skipped
// before]; taken: the file of an earlier review with which these decisions began.
let state = { decisions: {}, skipped: {}, history: [], track: suspects.length ? suspects[0].track : null, filter: "", taken: "" };
let chosen = 0; // which of the identities that the tracklet resembles

const pidOf = (track) => (state.decisions[track] ?? [stored.get(track).pid])[0];
const current = () => suspects.find((suspect) => suspect.track === state.track);
const otherPid = () => { const rows = current().others[chosen]; return rows ? pidOf(rows[0]) : null; };
const isDistractor = (suspect) => stored.get(suspect.track).pid === 0;

const ACTIONS = [
  { key: "s", name: "same person", needs: (suspect) => !isDistractor(suspect) && differs(),
    says: () => `same person as identity ${otherPid()}`, act: (suspect) => [decided(suspect.track, otherPid())] },
  { key: "w", name: "same person, whole identity", needs: (suspect) => !isDistractor(suspect) && differs(),
    says: () => `identity ${stored.get(state.track).pid} is identity ${otherPid()}`,
    act: (suspect) => ofIdentity(stored.get(suspect.track).pid).map((track) => decided(track, otherPid())) },
  { key: "d", name: "duplicate in distractor", needs: (suspect) => isDistractor(suspect) && differs(),
    says: () => `a duplicate of identity ${otherPid()}`, act: (suspect) => [decided(suspect.track, otherPid())] },
  { key: "a", name: "ambiguous with", needs: (suspect) => !isDistractor(suspect) && differs(),
    says: () => `ambiguous with identity ${otherPid()}`, act: (suspect) => [decided(suspect.track, pidOf(suspect.track), otherPid())] },
  { key: "i", name: "another identity…", needs: () => true, says: () => "type it", act: null },
  { key: "n", name: "new identity", needs: () => true, says: () => "a person who has no identity yet",
    act: (suspect) => [decided(suspect.track, unused())] },
  { key: "r", name: "label is right", needs: () => true, says: () => "the label is right",
    act: (suspect) => [decided(suspect.track, stored.get(suspect.track).pid)] },
  { key: "k", name: "skip", needs: () => true, says: () => "look at it later", act: null },
];

function differs() { return otherPid() > 0 && otherPid() !== pidOf(state.track); }
function decided(track, pid, second = pid) { return [track, [pid, second]]; }
function ofIdentity(pid) { return labels.filter((row) => row[1] === pid).map((row) => row[0]); }
function identities() { return new Set([...stored.values()].map((label) => label.pid).concat(Object.values(state.decisions).flatMap((decision) => decision.slice(0, 2)))); }
function unused() { return Math.max(0, ...identities()) + 1; }

function save() {
  try {
    localStorage.setItem(store, JSON.stringify(state));
  } catch (error) {
    warn(`This browser did not store the last decisions (${error.name}): save corrections.csv before you close or reload the page.`);
  }
}

function warn(text) {
  get("warning").textContent = text;
  get("warning").hidden = !text;
}

function change(decisions, name, skips = []) {
  const changes = [...decisions.map(([track]) => track), ...skips].map(
    (track) => [track, state.decisions[track] ?? null, state.skipped[track] ?? false]);
  state.history.push({ track: state.track, changes });
  decide(decisions, name);
  for (const track of skips) state.skipped[track] = true;
}

function decide(decisions, name) {
  for (const [track, decision] of decisions) {
    state.decisions[track] = [...decision, name];
    delete state.skipped[track];
  }
}

function undo() {
  const step = state.history.pop();
  if (!step) return;
  for (const [track, decision, skipped] of step.changes) {
    if (decision) state.decisions[track] = decision; else delete state.decisions[track];
    if (skipped) state.skipped[track] = true; else delete state.skipped[track];
  }
  if (suspects.some((suspect) => suspect.track === step.track)) state.track = step.track;
  update();
}

function visible() {
  return suspects.filter((suspect) => (state.filter !== "open" || !state.decisions[suspect.track])
    && (state.filter in { "": 0, open: 0 } || suspect.kind === state.filter));
}

function move(step) {
  const shown = visible();
  const place = suspects.indexOf(current());
  let next = step > 0 ? shown.find((suspect) => suspects.indexOf(suspect) > place)
    : shown.findLast((suspect) => suspects.indexOf(suspect) < place);
  if (!next && !shown.includes(current())) next = shown[0]; // start again with those that were passed over
  if (next) state.track = next.track;
  chosen = 0;
  update();
}

function perform(action) {
  const suspect = current();
  if (!suspect || question.hidden || !action.needs(suspect)) return;
  if (action.key === "i") {
    get("typed").hidden = false;
    get("identity").focus();
    return;
  }
  if (action.act) change(action.act(suspect), action.name);
  else if (!state.decisions[suspect.track]) change([], "", [suspect.track]);
  move(1);
}

function typed(second) {
  const text = get("identity").value.trim();
  const pid = Number(text);
  const least = second ? 1 : -1;
  if (!/^-?\d+$/.test(text) || pid < least || (pid > 0 && !identities().has(pid))) {
    get("typed-error").textContent = `${text || "nothing"} is not an identity of the test tracklets` + (second ? "" : ", nor 0 or -1");
    return;
  }
  const track = state.track;
  if (second) change([decided(track, pidOf(track), pid)], "ambiguous with");
  else change([decided(track, pid)], "another identity…");
  question.focus();
  move(1);
}

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function fill(figure, track) {
  const { name, picture, query } = tracklets[track];
  const { camid, frames } = stored.get(track);
  figure.replaceChildren(
    element("img", { src: picture, alt: `frames of ${name}`, loading: "lazy" }),
    element("figcaption", {}, `${name}: camera ${camid}, ${frames} frames, ${query ? "query" : "gallery"}`));
  return figure;
}

const tracklet = (track) => fill(element("figure", { className: "tracklet" }), track);

function who(pid) {
  return { 0: "a distractor", "-1": "junk" }[pid] ?? `identity ${pid}`;
}

function reason(suspect) {
  if (suspect.kind === "two persons") {
    return `Two or more persons were detected in at least ${Math.round(100 * suspect.weight)} % of its frames.`;
  }
  const bits = Math.abs(suspect.weight).toFixed(1);
  return isDistractor(suspect)
    ? `${bits} bits of evidence ${suspect.weight < 0 ? "against" : "for"} the first identity below.`
    : `It resembles the first of the others ${bits} bits ${suspect.weight < 0 ? "less" : "more"} than its own identity.`;
}

function shownDecision(suspect) {
  const decision = state.decisions[suspect.track];
  if (!decision) return state.skipped[suspect.track] ? "Skipped." : "";
  const [pid, second, name] = decision;
  return `Decided: ${name}. It is ${who(pid)}${second === pid ? "" : ` or ${who(second)}`} now.`;
}

function showActions(suspect) {
  const decision = state.decisions[suspect.track];
  get("actions").replaceChildren(...ACTIONS.map((action) => {
    const possible = action.needs(suspect);
    return element("button", { type: "button", disabled: !possible, title: possible ? action.says() : "not possible here",
      ariaPressed: String(Boolean(decision && decision[2] === action.name)), onclick: () => perform(action) },
      `${action.name} `, element("kbd", {}, action.key));
  }));
}

function showOthers(suspect) {
  get("others").replaceChildren(...suspect.others.map((tracks, number) => element("button", {
    type: "button", className: "candidate", ariaPressed: String(number === chosen),
    onclick: () => { chosen = number; update(); },
  }, element("strong", { className: "choice" }, element("kbd", {}, String(number + 1)), ` ${who(pidOf(tracks[0]))}`), ...tracks.map(tracklet))));
}

function update() {
  save();
  show();
}

function show() {
  const suspect = current();
  const shown = visible();
  question.hidden = !shown.length;
  get("empty").hidden = !question.hidden;
  const done = suspects.filter((suspect) => state.decisions[suspect.track]).length;
  const skipped = suspects.filter((suspect) => state.skipped[suspect.track]).length;
  get("progress").max = Math.max(1, suspects.length);
  get("progress").value = done;
  get("done").textContent = `${done} of ${suspects.length} decided${skipped ? `, ${skipped} skipped` : ""}`;
  get("undo").disabled = !state.history.length;
  get("filter").value = state.filter;
  if (question.hidden) return;
  const { pid } = stored.get(suspect.track);
  get("title").textContent = `${suspects.indexOf(suspect) + 1} of ${suspects.length}: labelled ${who(pid)}`;
  get("reason").textContent = reason(suspect);
  get("decision").textContent = shownDecision(suspect);
  fill(get("tracklet"), suspect.track);
  showActions(suspect);
  get("own-title").textContent = pid > 0 ? `Its own identity, ${pid}` : "Distractors have no identity";
  get("own").replaceChildren(...suspect.own.map(tracklet));
  if (pid > 0 && !suspect.own.length) get("own").textContent = "No other tracklet has it.";
  showOthers(suspect);
  get("typed").hidden = true;
  get("identity").value = "";
  get("typed-error").textContent = "";
}

function download(name, content, type) {
  const link = element("a", { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function saveCsv() {
  const lines = Object.entries(state.decisions).map(([track, [pid, second]]) => [Number(track), pid, second])
    .sort((a, b) => a[0] - b[0]).map((row) => row.join(","));
  download("corrections.csv", ["track_id,pid,second_pid", ...lines, ""].join("\n"), "text/csv");
}

// A level 4 MAT-file, which MATLAB, Octave and SciPy read: 20 bytes of header, the name, the matrix by columns.
function saveMat() {
  let frame = 1;
  const rows = labels.map(([track, pid, camid, frames]) => {
    const [now, second] = state.decisions[track] ?? [pid, pid];
    const row = [frame, frame + frames - 1, pid, camid, now, second];
    frame += frames;
    return row;
  });
  const name = new TextEncoder().encode("track_test_info\0");
  const buffer = new ArrayBuffer(20 + name.length + 8 * 6 * rows.length);
  const view = new DataView(buffer);
  [0, rows.length, 6, 0, name.length].forEach((value, place) => view.setInt32(4 * place, value, true));
  new Uint8Array(buffer).set(name, 20);
  for (let column = 0; column < 6; column++) {
    rows.forEach((row, place) => view.setFloat64(20 + name.length + 8 * (column * rows.length + place), row[column], true));
  }
  download("clean_tracks_test_info.mat", buffer, "application/octet-stream");
}

const rowsToDecisions = (rows) => rows.map(([track, pid, second]) => decided(track, pid, second));

// The fields of a line: plain, or in quotes, in which two quotes stand for one.
function fields(line) {
  return [...line.matchAll(/(?:^|,)\s*(?:"((?:[^"]|"")*)"|([^,]*))/g)].map((match) => (match[1]?.replaceAll('""', '"') ?? match[2]).trim());
}

function readCsv(text) {
  const lines = text.replace(/^\ufeff/, "").split(/\r?\n/).map((line, place) => [place + 1, line]).filter(([, line]) => line.trim());
  const header = lines.length ? fields(lines[0][1]) : [];
  const places = ["track_id", "pid", "second_pid"].map((name) => header.indexOf(name));
  if (places.includes(-1)) throw new Error("the first line does not name the columns track_id,pid,second_pid");
  const seen = new Set();
  return lines.slice(1).map(([number, line]) => {
    const cells = fields(line);
    const row = places.map((place) => (/^-?\d{1,9}$/.test(cells[place] ?? "") ? Number(cells[place]) : NaN));
    if (row.some(Number.isNaN)) throw new Error(`line ${number} does not hold three whole numbers`);
    const [track, pid, second] = row;
    if (!stored.has(track)) throw new Error(`line ${number}: no test tracklet has track_id ${track}; they are counted from 0`);
    if (seen.has(track)) throw new Error(`line ${number}: track_id ${track} is corrected more than once`);
    if (pid < -1 || (second !== pid && second < 1)) throw new Error(`line ${number}: ${pid},${second} are not identities`);
    seen.add(track);
    return row;
  });
}

async function load(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    const rows = readCsv(await file.text());
    if (!rows.length) throw new Error("it holds no row");
    change(rowsToDecisions(rows), "read from a file");
    warn("");
    update();
  } catch (error) {
    warn(`${file.name}: ${error.message}; no row was read.`);
  }
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === get("identity")) {
    if (event.key === "Escape") { question.focus(); update(); }
    if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); typed(true); }
    return;
  }
  if (event.target.matches("select, input")) return;
  const key = event.key.toLowerCase();
  const action = ACTIONS.find((candidate) => candidate.key === key);
  if (action) { event.preventDefault(); if (!event.repeat) perform(action); } // a key that is held decides once
  else if (key === "u") undo();
  else if (event.key === "ArrowRight") move(1);
  else if (event.key === "ArrowLeft") move(-1);
  else if (/^[1-9]$/.test(event.key) && current()?.others[event.key - 1]) { chosen = event.key - 1; update(); }
}

// Takes over a stored state, as far as it belongs to these labels.
function adopt(saved) {
  if (!saved?.decisions || !Array.isArray(saved.history)) return false;
  const known = (entries) => Object.fromEntries(Object.entries(entries ?? {}).filter(([track]) => stored.has(Number(track))));
  state = { ...state, ...saved, decisions: known(saved.decisions), skipped: known(saved.skipped) };
  if (![...get("filter").options].some((option) => option.value === state.filter)) state.filter = "";
  if (suspects.length && !current()) state.track = suspects[0].track;
  return true;
}

function restore() {
  let saved = null;
  try {
    saved = JSON.parse(localStorage.getItem(store));
  } catch { /* start without decisions */ }
  const had = adopt(saved) && Object.keys(state.decisions).length;
  const file = JSON.stringify(earlier);
  if (!earlier.length || state.taken === file) return;
  decide(rowsToDecisions(earlier), "read from a file");
  state.taken = file;
  if (had) warn("This browser had stored decisions. Those of the file given with --corrections were added, and replace them where both decide.");
}

// Two windows with the same review follow each other.
function follow(event) {
  if (event.key !== store || !event.newValue) return;
  const { track, filter } = state;
  if (adopt(JSON.parse(event.newValue))) {
    state = { ...state, track, filter };
    show();
  }
}

function start() {
  for (const kind of new Set(suspects.map((suspect) => suspect.kind))) get("filter").append(element("option", { value: kind }, kind));
  restore();
  get("filter").onchange = () => {
    state.filter = get("filter").value;
    if (!visible().includes(current()) && visible().length) state.track = visible()[0].track;
    chosen = 0;
    update();
    question.focus();
  };
  get("undo").onclick = undo;
  get("previous").onclick = () => move(-1);
  get("next").onclick = () => move(1);
  get("save-csv").onclick = saveCsv;
  const whole = labels.every(([track], place) => track === place);
  get("save-mat").disabled = !whole;
  get("save-mat").title = whole ? "the six columns of clean_tracks_test_info.mat" : "needs every tracklet of tracks_test_info; these records hold only some";
  get("save-mat").onclick = saveMat;
  get("load").onchange = load;
  get("clear").onclick = () => {
    if (!confirm("Delete all decisions? Files that you have saved stay.")) return;
    state = { ...state, decisions: {}, skipped: {}, history: [], taken: "" };
    update();
  };
  get("typed").onsubmit = (event) => { event.preventDefault(); typed(false); };
  get("with-identity").onclick = () => typed(true);
  document.addEventListener("keydown", onKey);
  window.addEventListener("storage", follow);
  update();
}

start();
