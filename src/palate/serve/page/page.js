import { api, keepKey, readAddress, written } from "./api.js";
import { lanes, lines } from "./pictures.js";

const NEWEST = 1000, SHOWN = 20, LIKES = 12, LISTED = 6, LINES = 4;   // maximum number of events; rows shown before "Show all"
const $ = (id) => document.getElementById(id);
const count = (number, word) => `${number.toLocaleString("en-US")} ${word}${number === 1 ? "" : "s"}`;
const percent = (value) => `${Math.round(100 * value)}%`;
const made = (kind, fields = {}, ...parts) => {
  const { data, ...own } = fields, element = Object.assign(document.createElement(kind), own);
  element.append(...parts.filter((one) => one != null && one !== ""));
  return element;
};
const head = (row, ...parts) => row.append(made("th", { scope: "row" }, ...parts));
const cell = (row, className, ...parts) => { const one = made("td", { className }, ...parts); row.append(one); return one; };
const meter = (value, most, text, against) => {
  const bar = made("span");
  bar.style.width = `${Math.max(1, Math.round(52 * Math.min(1, Math.abs(value) / most)))}px`;
  return made("div", { className: against ? "meter against" : "meter" }, bar, text);
};
const dated = (seconds) => seconds > 1e7 ? new Date(1000 * seconds).toISOString().slice(0, 10) : "";   // smaller values are row numbers, not times

let model = null, user = "", source = "";
let rows = [], asked = {};   // rows of the history, and the question: {text, items, categories}; without text, the trained instruction
let turn = 0, last = null, order = [], tasteOrder = [], all = false, allLikes = false, influences = null;

function tell(error, again) {
  $("trouble").hidden = !error;
  $("wrong").textContent = error ? error.message : "";
  $("again").hidden = !error?.wait;
  $("again").onclick = again ?? null;
  if (error?.status === 401) $("key-row").hidden = false;
}
// an error in one part of the page is shown there and does not affect the other parts
const softly = (work) => work.catch((error) => { if (error.status === 401) throw error; return { failed: error.message, wait: error.wait }; });

// keep the scroll position and the focus of the element that was just changed, whatever changes above it
let hand = "";
function steady(work) {
  const focused = document.activeElement?.id, before = $(hand)?.getBoundingClientRect().top;
  work();
  if (focused && document.activeElement?.id !== focused) $(focused)?.focus({ preventScroll: true });
  const now = $(hand)?.getBoundingClientRect().top;
  if (before > 0 && before < innerHeight && now !== undefined) window.scrollBy(0, now - before);
}

/* The history */
const changed = (row) => row.added || row.out || row.event.rating !== row.was;
const id = (row) => row.event.item_id ?? `new: ${row.event.title}`;
const history = () => rows.filter((row) => !row.out).map((row) => row.event);

function sorted() {
  const by = new Map((influences ?? []).map((one) => [one.item_id, one.influence]));
  const drives = (row) => row.out ? -1e9 : by.get(id(row)) ?? -1e8;
  const newest = (one, other) => (rows[other].event.timestamp ?? other) - (rows[one].event.timestamp ?? one) || other - one;
  const at = [...rows.keys()];
  order = $("order").value === "newest" ? at.sort(newest) : at.sort((one, other) => drives(rows[other]) - drives(rows[one]) || newest(one, other));
}
function showEvents() {
  const by = new Map((influences ?? []).map((one) => [one.item_id, one.influence]));
  const most = Math.max(0.01, ...[...by.values()].map(Math.abs)), shown = all ? order : order.slice(0, SHOWN);
  const scaled = model.ratings.length > 1;
  document.querySelectorAll(".rated").forEach((one) => { one.hidden = !scaled; });
  document.querySelectorAll(".moves").forEach((one) => { one.hidden = !by.size; });
  $("events").replaceChildren(...shown.map((at) => {
    const row = rows[at], line = made("tr", { className: changed(row) ? "changed" : "" });
    if (row.out) line.classList.add("out");
    head(line, row.title, row.added ? made("span", { className: "tag" }, "added") : "", made("small", {}, [row.event.rating === row.was ? "" : `was ${row.was}`, dated(row.event.timestamp), row.categories.join(", ")].filter(Boolean).join(" · ")));
    const choice = made("select", { id: `rating-${at}`, disabled: Boolean(row.out) });
    choice.setAttribute("aria-label", `Rating of ${row.title}`);
    for (const value of model.ratings) choice.add(new Option(value, value, false, value === Number(row.event.rating)));
    choice.addEventListener("change", () => { row.event.rating = Number(choice.value); hand = choice.id; changeMade(); });
    cell(line, "rated", choice).hidden = !scaled;
    const found = row.out ? undefined : by.get(id(row));
    cell(line, "moves", found === undefined ? "–" : meter(found, most, found.toFixed(Math.abs(found) < 10 ? 2 : 0).replace("-0.00", "0.00").replace("-", "−"), found < 0)).hidden = !by.size;
    const out = made("button", { type: "button", id: `out-${at}`, className: "quiet" }, row.added ? "Remove" : row.out ? "Take back" : "Leave out");
    out.setAttribute("aria-label", `${out.textContent} ${row.title}`);
    out.addEventListener("click", () => { if (row.added) { rows.splice(at, 1); sorted(); $("item").focus({ preventScroll: true }); } else row.out = !row.out; hand = out.id; changeMade(); });
    cell(line, "", out);
    return line;
  }));
  $("more").hidden = all || rows.length <= SHOWN;
  $("more").textContent = `Show all ${count(rows.length, "item")}`;
  $("undo").hidden = !rows.some(changed);
}
function changeMade() { steady(showEvents); remember(); explain(); }

/* The answer, with new words marked; "Children's" and "Sci-Fi" are one word each */
const WORD = /([\p{L}\p{N}]+(?:['’-][\p{L}\p{N}]+)*)/gu;
function showAnswer(given, before) {
  const known = new Set((before ?? given.text).toLowerCase().match(WORD));
  $("answer").replaceChildren(...given.text.split(WORD).map((part) => (/[\p{L}\p{N}]/u.test(part) && !known.has(part.toLowerCase()) ? made("mark", {}, part) : part)));
  $("before").textContent = before == null ? "" : before === given.text ? "The same as before." : `Before: ${before}`;
}

/* Tastes */
const estimates = (one) => [one.liked, one.disliked, one.rating];
function showTaste(taste, view, before) {
  $("tastes").hidden = false;
  const none = taste.failed ? `The taste is not shown: ${taste.failed}.` : "";
  if (none) { $("taste-note").textContent = none; $("likes").replaceChildren(); $("course").hidden = true; return; }
  const chances = taste.by === "view", rule = new Map((view?.categories ?? []).map((one) => [one.name, one.rule]));
  $("taste-note").textContent = [
    chances ? "The probability that a category is liked (above) and disliked (below)." : "The expected mean rating of each category's items.",
    `${chances ? "The band is how far it varies between random halves of the history, not where a longer history would lead" : "The band is its 90% interval"}; the thin line is a user without events${taste.like_above == null ? "" : ", the dashed one the threshold of a like"}.`,
    before ? "A hollow dot is the value before the last change." : "",
  ].join(" ");
  $("taste-head").replaceChildren(...[model.category_field, chances ? "From 0 to 100%" : `From ${taste.least} to ${taste.most}`, chances ? "Liked" : "Mean rating", ...(chances ? ["Disliked"] : []), "Events"].map((name, at) => {
    const title = made("th", { scope: "col" }, name[0].toUpperCase() + name.slice(1));
    if (at === 4 || (at === 3 && !chances)) title.className = "events";
    return title;
  }));
  const worth = (one) => (chances ? one.liked.value - one.disliked.value : one.rating.value);
  const weight = (one) => Math.abs(chances ? worth(one) : one.rating.value - one.rating.everyone) + (one.count ? 1e-3 : 0);
  if (!before) {   // after a change the rows keep their order
    const kept = [...taste.categories.keys()].sort((one, other) => weight(taste.categories[other]) - weight(taste.categories[one]));
    const first = kept.slice(0, LIKES).sort((one, other) => worth(taste.categories[other]) - worth(taste.categories[one]));
    tasteOrder = [...first, ...kept.slice(LIKES)];
  }
  const text = (one) => chances ? percent(one.value) : one.value.toFixed(1), span = (one) => chances ? `${Math.round(100 * one.low)}–${Math.round(100 * one.high)}` : `${one.low.toFixed(1)}–${one.high.toFixed(1)}`;
  $("likes").replaceChildren(...(allLikes ? tasteOrder : tasteOrder.slice(0, LIKES)).map((at) => {
    const one = taste.categories[at], was = before?.categories[at], line = made("tr");
    const said = rule.get(one.name);
    head(line, one.name, said ? made("small", {}, `${said} by the rule`) : "");
    const several = estimates(one).map((estimate, half) => ({ estimate, before: was && estimates(was)[half]?.value, against: half === 1 })).filter((lane) => lane.estimate);
    cell(line, "drawing", lanes({ least: taste.least, most: taste.most, mark: taste.like_above }, several));
    for (const lane of several) {
      const by = lane.before == null ? "" : text(lane.estimate) === text({ value: lane.before }) ? "" : `was ${text({ value: lane.before })}`;
      cell(line, by ? "num moved" : "num", text(lane.estimate), made("small", {}, span(lane.estimate)), by ? made("small", { className: "by" }, by) : "");
    }
    cell(line, "num events", String(one.count));
    return line;
  }));
  $("more-likes").hidden = allLikes || tasteOrder.length <= LIKES;
  $("more-likes").textContent = `Show all ${count(tasteOrder.length, "row")}`;
  showCourse(taste, chances);
}
function showCourse(taste, chances) {
  $("course").hidden = taste.course.length < 2;
  if ($("course").hidden) return;
  const span = (at) => { const values = taste.course.map((point) => point.values[at]); return Math.max(...values) - Math.min(...values); };
  const chosen = [...taste.categories.keys()].sort((one, other) => span(other) - span(one)).slice(0, LINES);
  chosen.sort((one, other) => taste.course.at(-1).values[other] - taste.course.at(-1).values[one]);
  const several = chosen.map((at) => ({ name: taste.categories[at].name, values: taste.course.map((point) => point.values[at]) }));
  const points = taste.course.map((point) => ({ events: point.events, label: count(point.events, "event"), when: dated(point.timestamp) }));
  const format = (value) => chances ? percent(value) : value.toFixed(1);
  const scale = { least: taste.least, most: taste.most, format, ticks: [0, 0.25, 0.5, 0.75, 1].map((part) => taste.least + part * (taste.most - taste.least)),
    said: several.map((one) => `${one.name} from ${format(one.values[0])} to ${format(one.values.at(-1))}`).join("; ") };
  $("course-picture").replaceChildren(lines(scale, points, several, true), lines(scale, points, several, false));
  $("course-note").textContent = `${chances ? "Probability of a like" : "Expected mean rating"} after the first events of the history, for the ${several.length} categories that changed most.`;
  $("course-head").replaceChildren(made("th", { scope: "col" }, "After"), ...several.map((one) => made("th", { scope: "col" }, one.name)));
  $("course-table").replaceChildren(...points.map((point, at) => {
    const line = made("tr");
    head(line, point.label, made("small", {}, point.when));
    several.forEach((one) => cell(line, "num", format(one.values[at])));
    return line;
  }));
}

/* What comes next */
function showNext(list, before, why) {
  $("recommended").hidden = false;
  if (list.failed) { $("next").replaceChildren(); $("next-note").textContent = `Nothing is recommended: ${list.failed}.`; return; }
  $("next-note").textContent = list.personal ? "Items that are not in the history, most probable first, with the events that support them." : "This user has no events: these are the most popular items.";
  const places = new Map((before?.items ?? []).map((one, at) => [one.item_id, at])), reasons = new Map((why ?? []).map((one) => [one.item_id, one]));
  $("next").replaceChildren(...list.items.map((one, at) => {
    const was = places.get(one.item_id), by = !before ? "" : was === undefined ? "new" : was > at ? `up ${was - at}` : was < at ? `down ${at - was}` : "";
    const line = made("li", { className: by === "new" ? "changed" : "" });
    line.append(made("div", { className: "named" }, made("b", {}, one.title), by ? made("span", { className: "tag" }, by) : "", made("small", {}, (list.categories?.get(one.item_id) ?? []).join(", "))));
    line.append(meter(one.share, list.items[0].share, `${(100 * one.share).toFixed(1)}%`));
    line.append(made("p", { className: "why" }, reasons.has(one.item_id) ? because(reasons.get(one.item_id)) : list.personal && !why ? "…" : ""));
    return line;
  }));
}
function because(reason) {
  const items = reason.items.map((one) => one.title + (one.rating === null || model.ratings.length < 2 ? "" : ` (${one.rating})`));
  const categories = reason.categories.map((one) => `${count(one.count, "event")} with ${one.name}`);
  const parts = items.length ? [...items, ...categories.slice(0, 1)] : categories;
  return parts.length ? `for ${parts.join(", ")}` : "for its popularity";
}
async function readReasons(now, list, before) {
  const kind = model.questions.find((one) => one.kind === "recommendation");
  if (!kind || !list.personal) return;
  const found = await softly(api("/answers", { questions: [{ history: history(), instruction: kind.wording, k: Math.min(LISTED, list.items.length) }] }));
  if (now === turn) steady(() => showNext(list, before, found.failed ? [] : found.answers[0].reasons));
}
async function withCategories(list) {
  if (list.failed) return list;
  const named = list.items.map((one) => `item_id=${encodeURIComponent(one.item_id)}`).join("&");
  const found = named ? await softly(api(`/items?most=1&${named}`)) : {};
  return { ...list, categories: new Map((found.items ?? []).map((one) => [one.item_id, one.categories])) };
}

/* Requests for all parts of the page */
async function explain() {
  const now = ++turn, read = history(), who = { history: read }, question = { ...who };
  if (asked.text) Object.assign(question, { instruction: asked.text, item_ids: asked.items, categories: asked.categories });
  tell(null);
  $("result").setAttribute("aria-busy", "true"); $("said").setAttribute("aria-busy", "true"); $("state").textContent = "Asking …";
  $("question").textContent = asked.shown || asked.text || model.instruction;
  document.querySelectorAll("#kinds button").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.kind === asked.kind)));
  try {
    const recommended = model.recommender ? softly(api("/recommendations", { users: [who], k: LISTED }).then((found) => withCategories(found.recommendations[0]))) : null;
    const [given, list, taste, view] = await Promise.all([
      api("/answers", { questions: [question] }).then((found) => found.answers[0]), recommended,
      softly(api("/tastes", who)), model.instruction === null ? null : softly(api("/views", who)),
    ]);
    if (now !== turn) return;
    $("result").hidden = false;
    $("read").textContent = source;
    const same = last?.asked === JSON.stringify(asked) ? last : null, before = last?.list;
    steady(() => {
      showAnswer(given, same?.given.text);
      showTaste(taste, view?.failed ? null : view, last?.taste);
      if (list) showNext(list, before);
    });
    last = { asked: JSON.stringify(asked), given, taste: taste.failed ? null : taste, list: list?.failed ? null : list };
    $("state").textContent = ["model", undefined].includes(given.source) ? "Written by the language model." : `Computed from ${given.by === "ratings" ? "predicted ratings" : given.by === "view" ? "the taste below" : "scores"}.`;
    if (list && !list.failed) await readReasons(now, list, before);
    if (now === turn) await showInfluences(now, given, question);
  } catch (error) {
    if (now !== turn) return;
    $("state").textContent = "";
    $("result").removeAttribute("aria-busy");
    tell(error, explain);
  } finally {
    if (now === turn) $("said").removeAttribute("aria-busy");
  }
}
async function showInfluences(now, given, question) {
  const note = (text) => { $("influence-note").textContent = text; };
  influences = null;
  if (given.source !== "model") {
    note(given.reasons.length ? "Influence: decrease of the score behind the answer without the item." : "");
    influences = given.reasons.length ? given.reasons[0].items : null;
    return arrived();
  }
  for (let tries = 1; ; tries++) {
    const found = await softly(api("/attributions", { history: question.history, ...(asked.text ? { instruction: asked.text } : {}) }));
    if (now !== turn) return;
    if (!found.failed) {
      influences = found.items;
      note(`Influence: decrease of the log-probability of ${found.by === "chances" ? "the categories that the answer names" : "the answer"} without the item. Negative: the item makes the answer less probable.`);
      return arrived();
    }
    if (!found.wait || tries === 10) { note(`Influences are not shown: ${found.failed}.`); return arrived(); }
    note(`Another history is being explained; trying again in ${found.wait} s …`);
    await new Promise((wake) => setTimeout(wake, 1000 * found.wait));
    if (now !== turn) return;
  }
}
function arrived() { steady(showEvents); $("result").removeAttribute("aria-busy"); }

/* Kinds of questions as buttons */
function showKinds() {
  $("kinds").replaceChildren(...model.questions.map((one) => {
    const trained = one.kind === "preference" && model.instruction !== null;
    const text = one.wording.replace(/\{(item|category)\}/g, "…"), button = made("button", { type: "button" }, trained ? model.instruction : text);
    button.dataset.kind = one.kind; button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      if (one.items || one.categories) return choose(one);
      $("named").hidden = true;
      put(trained ? { kind: one.kind } : { kind: one.kind, text: one.wording });
    });
    return button;
  }));
  $("categories").replaceChildren(...model.categories.map((name) => new Option(name, name)));
}
function choose(kind) {
  const parts = [], field = (number, noun) => {
    const name = `entity-${number}`, input = noun === "category" ? made("select", { id: name }) : made("input", { id: name, autocomplete: "off", spellcheck: false });
    if (noun === "category") for (const one of model.categories) input.add(new Option(one, one));
    else { input.setAttribute("list", `${name}-list`); parts.push(made("datalist", { id: `${name}-list` })); suggest(input, `${name}-list`); }
    if (noun === "category") input.selectedIndex = Math.min(number, model.categories.length - 1);
    parts.push(made("p", {}, made("label", { htmlFor: name }, noun === "category" ? model.category_field : model.item_noun), input));
    return input;
  };
  const items = Array.from({ length: kind.items }, (_, at) => field(at, "item"));
  const categories = Array.from({ length: kind.categories }, (_, at) => field(kind.items + at, "category"));
  $("entities").replaceChildren(...parts);
  $("named").hidden = false;
  $("named").onsubmit = (event) => {
    event.preventDefault();
    const chosen = items.map(known), unknown = chosen.findIndex((one) => !one);
    if (unknown >= 0) return tell(new Error(`${items[unknown].value ? `“${items[unknown].value}” is not in the catalogue` : `no ${model.item_noun} is given`}; type a word of its title, and choose one from the list`));
    const names = [...chosen.map((one) => one.title), ...categories.map((one) => one.value)];
    let at = 0;
    put({ kind: kind.kind, text: kind.wording, items: chosen.map((one) => one.item_id), categories: categories.map((one) => one.value), shown: kind.wording.replace(/\{(item|category)\}/g, () => names[at++]) });
  };
  [...items, ...categories][0].focus();
}
function put(question) { asked = question; remember(); explain(); }

/* Items by words */
const suggested = new Map();
const known = (input) => suggested.get(input.value.trim());
function suggest(input, list) {
  let waiting;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    if (!input.value.trim() || known(input)) return;
    waiting = setTimeout(async () => {
      const found = await softly(api(`/items?most=20&words=${encodeURIComponent(input.value)}`));
      const seen = new Set();
      $(list)?.replaceChildren(...(found.items ?? []).map((one) => {
        const label = seen.has(one.title) ? `${one.title} [${one.item_id}]` : one.title;
        seen.add(one.title); suggested.set(label, one);
        return new Option(one.categories.join(", "), label);
      }));
      input.dispatchEvent(new CustomEvent("suggested"));
    }, 150);
  });
}
async function addItem() {
  const title = $("item").value.trim();
  if (!title) throw new Error(`no ${model.item_noun} is given; type some words of its title`);
  let one = known($("item"));
  if (!one) one = (await api(`/items?most=20&words=${encodeURIComponent(title)}`)).items.find((item) => item.title.toLowerCase() === title.toLowerCase());
  const categories = $("item-categories").value.split(/[,|]/).map((name) => name.trim()).filter(Boolean);
  const event = { ...(one ? { item_id: one.item_id } : { title, ...(categories.length ? { categories } : {}) }), rating: model.ratings.at(-1) };
  add(event, one?.title ?? title, one?.categories ?? categories);
  $("item").value = $("item-categories").value = "";
  $("suggestions").replaceChildren();
}
function add(event, title, categories) {
  const there = rows.find((row) => id(row) === (event.item_id ?? `new: ${event.title}`));
  if (there) throw new Error(`${title} is in the history already; change its rating there`);
  const times = rows.map((row) => row.event.timestamp).filter((one) => one != null);
  if (times.length) event.timestamp = Math.max(...times) + 1;
  rows.push({ event, title, categories, was: event.rating, added: true });
  sorted();
}

/* Whose history it is */
const row = (event, title, categories) => ({ event, title, categories, was: event.rating });
async function readUser(name) {
  const found = await api(`/users/${encodeURIComponent(name)}/history?newest=${NEWEST + 1}`);   // one more, to see whether there are older ones
  const read = found.events.slice(-NEWEST);
  source = read.length < found.events.length
    ? `The newest ${count(read.length, "event")} of user ${name}; older ones are not used.`
    : `${count(read.length, "event")} of user ${name}.`;
  return read.map(({ item_id, rating, timestamp, title, categories }) => row({ item_id, rating, timestamp }, title ?? item_id, categories));
}
async function readPasted(text) {
  let found;
  try { found = JSON.parse(text); } catch (error) { throw new Error(`the history is not valid JSON: ${error.message}`); }
  const listed = Array.isArray(found) && found.every((one) => one !== null && typeof one === "object");
  if (!listed) throw new Error('the history is not a list of events; expected [{"item_id": …, "rating": …}, …]');
  source = `${count(found.length, "event")} of the given history.`;
  const ids = found.filter((one) => one.item_id != null).slice(0, NEWEST), items = new Map();
  for (let at = 0; at < ids.length; at += 100) {
    const some = ids.slice(at, at + 100).map((one) => `item_id=${encodeURIComponent(one.item_id)}`).join("&");
    for (const one of (await softly(api(`/items?most=1&${some}`))).items ?? []) items.set(one.item_id, one);
  }
  const rated = model.unrated === null ? {} : { rating: model.unrated };
  return found.map((event) => {
    const one = items.get(String(event.item_id)), own = [].concat(event.categories ?? []).flatMap((name) => String(name).split("|"));
    return row({ ...rated, ...event }, one?.title ?? event.title ?? String(event.item_id), one?.categories ?? own);
  });
}
async function readExample() {
  const found = await api("/example");
  if (found.user_id) return { user: found.user_id, rows: await readUser(found.user_id) };
  source = found.history.length ? "A made-up history: the store has no users yet." : "";
  return { user: "", rows: found.history.map(({ item_id, rating, title, categories }) => row({ item_id, rating }, title, categories)) };
}
function remember() {
  const view = { user, history: user ? "" : JSON.stringify(rows.filter((one) => !one.added).map((one) => ({ ...one.event, rating: one.was }))) };
  view.ask = asked.text ?? ""; view.item = asked.items ?? []; view.category = asked.categories ?? [];
  view.rate = rows.filter((one) => !one.added && one.event.rating !== one.was).map((one) => `${id(one)}=${one.event.rating}`);
  view.out = rows.filter((one) => one.out).map(id);
  view.add = rows.filter((one) => one.added).map((one) => JSON.stringify(one.event));
  window.history.replaceState(null, "", written(view));
}
async function apply(view) {
  const by = new Map(rows.map((one) => [String(id(one)), one]));
  for (const one of view.rate) {
    const at = one.lastIndexOf("="), found = by.get(one.slice(0, at));
    if (found) found.event.rating = Number(one.slice(at + 1));
  }
  for (const one of view.out) if (by.has(one)) by.get(one).out = true;
  for (const text of view.add) {
    const event = JSON.parse(text), named = event.item_id == null ? [] : (await softly(api(`/items?most=1&item_id=${encodeURIComponent(event.item_id)}`))).items ?? [];
    add(event, named[0]?.title ?? event.title ?? event.item_id, named[0]?.categories ?? event.categories ?? []);
  }
  const kind = model.questions.find((one) => one.wording === view.ask);
  asked = view.ask ? { kind: kind?.kind, text: view.ask, items: view.item, categories: view.category } : model.instruction === null ? first() : { kind: "preference" };
  if (view.ask && (view.item.length || view.category.length)) {
    const named = view.item.length ? (await api(`/items?most=1&${view.item.map((one) => `item_id=${encodeURIComponent(one)}`).join("&")}`)).items.map((one) => one.title) : [];
    const names = [...named, ...view.category];
    asked.shown = view.ask.replace(/\{(item|category)\}/g, () => names.shift() ?? "…");
  }
  $("instruction").value = kind || !view.ask ? "" : view.ask;
}
const first = () => { const one = model.questions.find((kind) => kind.kind === "recommendation") ?? model.questions.find((kind) => !kind.items && !kind.categories); return { kind: one?.kind, text: one?.wording }; };

async function look(view) {
  const now = ++turn;
  $("result").hidden = true;   // it is about another user
  tell(null);
  try {
    if (!model) await readModel();
    let found = { user: view.user, rows: [] };
    if (view.user && view.history) throw new Error("both a user and a history are given; clear one of them");
    if (view.user) found.rows = await readUser(view.user);
    else if (view.history) found.rows = await readPasted(view.history);
    else found = await readExample();
    if (now !== turn) return;
    ({ user, rows } = found);
    if (!user && !rows.length && !view.history) throw new Error("the store has no users yet, and the server does not have the dataset that the model was trained on; give a user or your own history");
    if (model.reads !== "the whole history") source += ` The model reads ${model.reads}.`;
    last = null; all = allLikes = false; influences = null;
    $("user").value = user;
    $("recommended").hidden = !model.recommender;
    await apply(view);
    sorted(); showEvents(); remember();
    await explain();
  } catch (error) { if (now === turn) tell(error, () => look(view)); }
}
async function readModel() {
  model = await api("/model");
  showKinds();
  await listUsers();
}
async function listUsers() {
  const found = await api(`/users?starting=${encodeURIComponent($("user").value)}`);
  $("users").replaceChildren(...found.users.map((name) => new Option(name, name)));
}
async function copyLink() {
  try { await navigator.clipboard.writeText(location.href); $("link").textContent = "Copied"; } catch { $("link").textContent = "Copy it from the address bar"; }
  setTimeout(() => { $("link").textContent = "Copy a link to this view"; }, 2500);
}

const when = (name, what, work) => $(name).addEventListener(what, (event) => { event.preventDefault(); work(event); });
when("user", "input", () => listUsers().catch(() => {}));
when("who", "submit", () => {
  if ($("key").value) keepKey($("key").value.trim());
  const pasted = $("history").value.trim(), name = $("user").value.trim();
  look({ user: pasted && name === user ? "" : name, history: pasted, ask: asked.text ?? "", item: asked.items ?? [], category: asked.categories ?? [], rate: [], out: [], add: [] });
});
when("key", "change", () => { keepKey($("key").value.trim()); look(readAddress()); });
when("link", "click", copyLink);
when("free", "submit", () => {
  const text = $("instruction").value.trim();
  $("named").hidden = true;
  put(text ? { text } : model.instruction === null ? first() : { kind: "preference" });
});
when("add", "submit", () => addItem().then(() => { hand = "item"; changeMade(); }).then(() => tell(null)).catch((error) => tell(error)));
when("order", "change", () => { hand = "order"; sorted(); steady(showEvents); });
when("undo", "click", () => { rows = rows.filter((one) => !one.added); for (const one of rows) { one.out = false; one.event.rating = one.was; } hand = "order"; sorted(); changeMade(); $("order").focus(); });
when("more", "click", () => { all = true; showEvents(); $(`rating-${order[SHOWN]}`)?.focus(); });
when("more-likes", "click", () => { allLikes = true; showTaste(last.taste, null, last.taste); });
window.addEventListener("hashchange", () => look(readAddress()));
suggest($("item"), "suggestions");
look(readAddress());
