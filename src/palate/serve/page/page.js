"use strict";
const $ = (id) => document.getElementById(id);
const api = async (path, body) => {
  const key = sessionStorage.getItem("palate-key");
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  const content = await response.json();
  if (response.ok) return content;
  if (response.status === 401) $("key-row").hidden = false;
  throw Object.assign(new Error(content.detail), { status: response.status });
};
let events = [], scale = [], last = null, asked = 0;

const cell = (row, ...parts) => { const made = row.insertCell(); made.append(...parts); return made; };
const meter = (value, most, text, against) => {
  const made = document.createElement("div"), bar = document.createElement("span");
  made.className = against ? "meter against" : "meter";
  bar.style.width = `${Math.max(1, Math.round(60 * Math.min(1, Math.abs(value) / most)))}px`;
  made.append(bar, text);
  return made;
};
const change = (now, before) => {
  const by = before == null ? 0 : Math.round(100 * (now - before));
  return by ? ` (${by > 0 ? "+" : "−"}${Math.abs(by)})` : "";
};

function showLikes(view, before) {
  const seen = view.categories.some((one) => one.liked !== null), ruled = view.categories.some((one) => one.count !== null);
  $("view-note").textContent = [
    seen ? "Chances in % that the user encoder sees; what the last change moved stands in brackets." : "This model's user encoder has no view of its own.",
    ruled ? "The rule takes the history for all there is." : "The rule is not shown: the server does not have the dataset that the model was trained on.",
  ].join(" ");
  $("likes").replaceChildren();
  view.categories.forEach((one, number) => {
    const row = $("likes").insertRow(), was = before?.categories[number], name = document.createElement("th");
    name.scope = "row"; name.textContent = one.name; row.append(name);
    if (one.liked === null) cell(row, "–");
    else cell(row,
      meter(one.liked, 1, `likes ${Math.round(100 * one.liked)}${change(one.liked, was?.liked)}`, false),
      meter(one.disliked, 1, `dislikes ${Math.round(100 * one.disliked)}${change(one.disliked, was?.disliked)}`, true));
    cell(row, one.score === null ? "–" : meter(one.score, Math.max(...scale), `${one.score.toFixed(2)} (${one.count}) ${one.rule ?? ""}`, one.rule === "disliked"));
  });
}

function showEvents(influences, focused) {
  const by = new Map((influences ?? []).map((one) => [one.item_id, one]));
  const most = Math.max(0.01, ...(influences ?? []).map((one) => Math.abs(one.influence)));
  const named = (event) => event.item_id ?? `new: ${event.title}`;
  const order = events.map((event, at) => [at, event, by.get(named(event))]);
  order.sort((one, other) => (other[2]?.influence ?? -1e9) - (one[2]?.influence ?? -1e9));
  $("events").replaceChildren();
  for (const [at, event, found] of order) {
    const row = $("events").insertRow(), title = event.shown ?? found?.title ?? event.title ?? event.item_id;
    cell(row, title);
    const choice = document.createElement("select");
    choice.id = `rating-${at}`;
    choice.setAttribute("aria-label", `Rating of ${title}`);
    for (const value of scale) choice.add(new Option(value, value, false, value === event.rating));
    choice.addEventListener("change", () => { event.rating = Number(choice.value); explain(choice.id); });
    cell(row, choice);
    cell(row, found ? meter(found.influence, most, found.influence.toFixed(2), found.influence < 0) : "–");
  }
  if (focused) $(focused)?.focus();
}

async function explain(focused) {
  const turn = ++asked, instruction = $("instruction").value.trim() || null;
  const history = events.map(({ shown, ...event }) => event), question = { history, instruction };
  $("wrong").textContent = ""; $("said").textContent = "Asking …";
  try {
    const [answers, view] = await Promise.all([api("/answers", { questions: [question] }), api("/views", { history })]);
    if (turn !== asked) return;
    const text = answers.answers[0].text;
    $("result").hidden = false;
    $("answer").textContent = text;
    $("before").textContent = !last ? "" : last.text === text ? "The answer is the same as before." : `Before: ${last.text}`;
    showLikes(view, last?.view);
    last = { text, view };
    showEvents(null, focused);
    $("influence-note").textContent = "Leaving out each item in turn …";
    const found = await api("/attributions", question);
    if (turn !== asked) return;
    showEvents(found.items, focused);
    $("influence-note").textContent = "Leave-one-out: by how much the log-probability of the answer falls without the item. Negative: the item speaks against it.";
    $("said").textContent = "Done.";
  } catch (error) {
    if (turn !== asked) return;
    $("said").textContent = ""; $("wrong").textContent = error.message;
    $("influence-note").textContent = "";
  }
}

async function start() {
  try {
    const model = await api("/model");
    scale = model.ratings; $("instruction").placeholder = model.instruction;
    await listUsers();
  } catch (error) { $("wrong").textContent = error.message; }
}
async function listUsers() {
  const found = await api(`/users?starting=${encodeURIComponent($("user").value)}`);
  $("users").replaceChildren(...found.users.map((id) => new Option(id, id)));
}
$("user").addEventListener("input", () => listUsers().catch(() => {}));
$("key").addEventListener("change", () => { sessionStorage.setItem("palate-key", $("key").value.trim()); start(); });
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  last = null; $("wrong").textContent = "";
  if ($("key").value) sessionStorage.setItem("palate-key", $("key").value.trim());
  try {
    if (!scale.length) await start();
    const user = $("user").value.trim();
    if (user) {
      const found = await api(`/users/${encodeURIComponent(user)}/history`);
      events = found.events.map(({ item_id, rating, timestamp, title }) => ({ item_id, rating, timestamp, shown: title ?? item_id }));
    } else {
      events = JSON.parse($("history").value);
      if (!Array.isArray(events)) throw new Error("the history is not a list; expected [{\"item_id\": …, \"rating\": …}, …]");
    }
    await explain();
  } catch (error) {
    $("wrong").textContent = error instanceof SyntaxError ? `the history is not valid JSON: ${error.message}` : error.message;
  }
});
start();
