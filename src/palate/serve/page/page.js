"use strict";
const NEWEST = 1000, SHOWN = 50;   // events of a stored user that are read; rows of the table before it is asked for all
const $ = (id) => document.getElementById(id);
const count = (number, word) => `${number.toLocaleString("en-US")} ${word}${number === 1 ? "" : "s"}`;
const api = async (path, body) => {
  const key = sessionStorage.getItem("palate-key");
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const sent = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, sent).catch(() => { throw new Error("the server cannot be reached; is it running?"); });
  const content = await response.json().catch(() => ({}));   // a proxy's error is no JSON
  if (response.ok) return content;
  throw problem(response, content.detail ?? `the server said ${response.status} ${response.statusText}`, key);
};
function problem(response, detail, key) {
  const status = response.status, wait = Number(response.headers.get("Retry-After"));
  let text = detail.replace(/^questions\.0\./, "");
  if (status === 401) {
    $("key-row").hidden = false;
    text = key ? "the server does not know this API key" : "this server asks for an API key";
  }
  if (wait) text = `${text.replace(/[,;]( or)? try again.*$/, "")}; try again in ${wait} s`;
  return Object.assign(new Error(text), { status, wait });
}
function tell(error, again) {
  $("trouble").hidden = !error;
  $("wrong").textContent = error ? error.message : "";
  $("again").hidden = !error?.wait;
  $("again").onclick = again ?? null;
}
// rows of the history: what is sent of an event, its title where it is known, and whether it is left out
let model = null, events = [], source = "", last = null, asked = 0, rows = [], all = false;

const head = (row, name) => {
  const made = document.createElement("th");
  made.scope = "row"; made.textContent = name; row.append(made);
};
const cell = (row, ...parts) => { const made = row.insertCell(); made.append(...parts); return made; };
const meter = (value, most, text, against) => {
  const made = document.createElement("div"), bar = document.createElement("span");
  made.className = against ? "meter against" : "meter";
  bar.style.width = `${Math.max(1, Math.round(60 * Math.min(1, Math.abs(value) / most)))}px`;
  made.append(bar, text);
  return made;
};
const chip = (rule) => {
  const made = document.createElement("span");
  made.className = `chip ${rule === "liked" ? "hit" : "miss"}`;
  made.textContent = rule;
  return made;
};
const change = (now, before) => {
  const by = before == null ? 0 : Math.round(100 * (now - before));
  return by ? ` (${by > 0 ? "+" : "−"}${Math.abs(by)})` : "";
};

function showLikes(view, before) {
  const seen = view.categories.some((one) => one.liked !== null), ruled = view.categories.some((one) => one.count !== null);
  $("view-note").textContent = [
    seen ? "Liked and disliked: chances in % that the user encoder sees; what the last change moved stands in brackets." : "This model's user encoder has no view of its own.",
    ruled ? "The rule takes the history for all there is." : "The rule is not shown: the server does not have the dataset that the model was trained on.",
  ].join(" ");
  const worth = (one) => (one.liked === null ? one.score ?? -1 : one.liked - one.disliked);
  // a change does not move rows, so that it is seen where one looks
  if (!before) rows = [...view.categories.keys()].sort((one, other) => worth(view.categories[other]) - worth(view.categories[one]));
  $("likes").replaceChildren();
  for (const number of rows) {
    const one = view.categories[number], was = before?.categories[number];
    const row = $("likes").insertRow();
    head(row, one.name);
    for (const side of ["liked", "disliked"])
      cell(row, one[side] === null ? "–" : meter(one[side], 1, Math.round(100 * one[side]) + change(one[side], was?.[side]), side === "disliked"));
    cell(row, ...(one.score === null ? ["–"] : [`${one.score.toFixed(2)} (${one.count}) `, one.rule ? chip(one.rule) : ""]));
  }
}

function showEvents(influences, focused) {
  const by = new Map((influences ?? []).map((one) => [one.item_id, one]));
  const most = Math.max(0.01, ...(influences ?? []).map((one) => Math.abs(one.influence)));
  const order = events.map((one, at) => [at, one, one.out ? null : by.get(one.event.item_id ?? `new: ${one.event.title}`)]);
  order.sort((one, other) => (other[2]?.influence ?? -1e9) - (one[2]?.influence ?? -1e9) || other[0] - one[0]);
  all ||= order.findIndex(([at]) => `rating-${at}` === focused) >= SHOWN;
  $("events").replaceChildren();
  for (const [at, one, found] of all ? order : order.slice(0, SHOWN)) {
    const row = $("events").insertRow(), title = one.title ?? found?.title ?? one.event.title ?? one.event.item_id;
    head(row, title);
    const choice = document.createElement("select");
    choice.id = `rating-${at}`;
    choice.setAttribute("aria-label", `Rating of ${title}`);
    for (const value of model.ratings) choice.add(new Option(value, value, false, value === Number(one.event.rating)));
    choice.add(new Option("out", "", false, Boolean(one.out)));
    choice.addEventListener("change", () => {
      one.out = !choice.value;
      if (choice.value) one.event.rating = Number(choice.value);
      explain(choice.id);
    });
    cell(row, choice);
    cell(row, found ? meter(found.influence, most, found.influence.toFixed(2).replace("-", "−"), found.influence < 0) : "–");
  }
  $("more").hidden = all || events.length <= SHOWN;
  $("more").textContent = `Show all ${count(events.length, "item")}`;
  $("more").onclick = () => { all = true; showEvents(influences, `rating-${order[SHOWN][0]}`); };
  if (focused) $(focused)?.focus();
}

function showNext(list, before) {
  const places = new Map((before?.items ?? []).map((one, at) => [one.item_id, at]));
  $("next-note").textContent = [
    list.personal ? "Items that are not in the history; a share is that of the odds among all of them." : "The history is empty: these are the most popular items.",
    before ? "New in the list since the last change: “new”." : "",
  ].join(" ");
  $("next").replaceChildren();
  for (const one of list.items) {
    const row = $("next").insertRow();
    head(row, one.title + (before && !places.has(one.item_id) ? " (new)" : ""));
    cell(row, meter(one.share, list.items[0].share, `${(100 * one.share).toFixed(1)}%`));
  }
}

async function recommended(history) {
  if (!model.recommender) return null;
  try {
    return (await api("/recommendations", { users: [{ history }] })).recommendations[0];
  } catch (error) {
    if (model.instruction === null || error.status === 401) throw error;
    return { failed: error.message };   // as for a history with items as text: the answer stands without a list
  }
}

async function explain(focused) {
  const turn = ++asked, instruction = $("instruction").value.trim() || null;
  const history = events.filter((one) => !one.out).map((one) => one.event);
  const question = { history, instruction };
  tell(null); $("said").textContent = "Asking …";
  try {
    const answered = model.instruction === null ? [] : [api("/answers", { questions: [question] }), api("/views", { history })];
    const [list, answers, view] = await Promise.all([recommended(history), ...answered]);
    if (turn !== asked) return;
    $("result").hidden = false;
    $("read").textContent = source;
    if (list?.failed) { $("next").replaceChildren(); $("next-note").textContent = `Nothing is recommended: ${list.failed}.`; }
    else if (list) showNext(list, last?.list);
    const text = answers?.answers[0].text;
    if (answers) {
      $("answer").textContent = text;
      $("before").textContent = !last ? "" : last.text === text ? "The answer is the same as before." : `Before: ${last.text}`;
      showLikes(view, last?.view);
    }
    last = { text, view, list: list?.failed ? null : list };
    showEvents(null, focused);
    if (answers) await showInfluences(turn, question);
    else $("said").textContent = "Done.";
  } catch (error) {
    if (turn !== asked) return;
    $("said").textContent = "";
    tell(error, () => explain(focused));
  }
}

async function showInfluences(turn, question) {
  $("influence-note").textContent = "Leaving out each item in turn …";
  for (let tries = 1; ; tries++) {
    try {
      const found = await api("/attributions", question);
      if (turn !== asked) return;
      showEvents(found.items, document.activeElement?.id);
      $("influence-note").textContent = "Leave-one-out: by how much the log-probability of the answer falls without the item. Negative: the item speaks against it.";
      break;
    } catch (error) {
      if (turn !== asked) return;
      if (error.status !== 429 || tries === 10) {   // the answer stands without its reasons
        $("influence-note").textContent = `Influences are not shown: ${error.message}.`;
        break;
      }
      $("influence-note").textContent = `Another history is being explained; trying again in ${error.wait} s …`;
      await new Promise((wake) => setTimeout(wake, 1000 * error.wait));
      if (turn !== asked) return;
    }
  }
  $("said").textContent = "Done.";
}

async function start() {
  tell(null);
  try {
    model = await api("/model");
    $("instruction").placeholder = model.instruction ?? "";
    $("instruction-row").hidden = $("answered").hidden = $("influence-note").hidden = model.instruction === null;
    $("recommended").hidden = !model.recommender;
    await listUsers();
  } catch (error) { tell(error, start); }
}
async function listUsers() {
  const found = await api(`/users?starting=${encodeURIComponent($("user").value)}`);
  $("users").replaceChildren(...found.users.map((id) => new Option(id, id)));
}
async function readUser(user) {
  const found = await api(`/users/${encodeURIComponent(user)}/history?newest=${NEWEST + 1}`);   // one more tells of older ones
  const read = found.events.slice(-NEWEST);
  source = read.length < found.events.length
    ? `Read from the newest ${count(read.length, "event")} of user ${user}; older ones play no part here.`
    : `Read from ${count(read.length, "event")} of user ${user}.`;
  return read.map(({ item_id, rating, timestamp, title }) => ({ event: { item_id, rating, timestamp }, title: title ?? item_id }));
}
function readPasted(text) {
  let found;
  try { found = JSON.parse(text); } catch (error) { throw new Error(`the history is not valid JSON: ${error.message}`); }
  const listed = Array.isArray(found) && found.every((one) => one !== null && typeof one === "object");
  if (!listed) throw new Error('the history is not a list of events; expected [{"item_id": …, "rating": …}, …]');
  source = `Read from ${count(found.length, "pasted event")}.`;
  const rated = model.unrated === null ? {} : { rating: model.unrated };
  return found.map((event) => ({ event: { ...rated, ...event } }));
}
async function ask() {
  const user = $("user").value.trim(), pasted = $("history").value.trim();
  asked++; $("result").hidden = true; $("said").textContent = "";   // what is shown is about somebody else
  try {
    if (!user && !pasted) throw new Error("nobody to ask about; choose a user of the store, or paste a history");
    if (user && pasted) throw new Error("both a user and a history are given; clear one of them");
    if (!model) await start();
    if (!model) return;   // start has said why
    events = user ? await readUser(user) : readPasted(pasted);
    if (model.reads !== "the whole history") source += ` The model reads ${model.reads}.`;
    last = null; all = false;
    await explain();
  } catch (error) { tell(error, ask); }
}
$("user").addEventListener("input", () => listUsers().catch(() => {}));
$("key").addEventListener("change", () => { sessionStorage.setItem("palate-key", $("key").value.trim()); start(); });
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("key").value) sessionStorage.setItem("palate-key", $("key").value.trim());
  ask();
});
start();
