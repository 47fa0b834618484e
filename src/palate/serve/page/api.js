// Requests to the server that served the page, and its error messages.
export const key = () => sessionStorage.getItem("palate-key");
export const keepKey = (given) => sessionStorage.setItem("palate-key", given);

export async function api(path, body) {
  const known = key();
  const headers = { "Content-Type": "application/json", ...(known ? { Authorization: `Bearer ${known}` } : {}) };
  const sent = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
  const response = await fetch(path, sent).catch(() => { throw new Error("the server cannot be reached; is it running?"); });
  const content = await response.json().catch(() => ({}));   // errors of a proxy are not JSON
  if (response.ok) return content;
  throw problem(response, content.detail ?? `the server said ${response.status} ${response.statusText}`, known);
}

function problem(response, detail, known) {
  const status = response.status, wait = Number(response.headers.get("Retry-After"));
  let text = detail.replace(/^(questions|users)\.0\./, "");
  if (status === 401) text = known ? "the server does not know this API key" : "this server requires an API key";
  if (wait) text = `${text.replace(/[,;]( or)? try again.*$/, "")}; try again in ${wait} s`;
  return Object.assign(new Error(text), { status, wait });
}

// the view as a URL fragment, which is never sent to the server, so that a link restores it
export function written(view) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(view))
    for (const one of Array.isArray(value) ? value : value ? [value] : []) said.append(name, one);
  return `#${said}`;
}
export function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  const one = (name) => said.get(name) ?? "", all = (name) => said.getAll(name);
  return { user: one("user"), history: one("history"), ask: one("ask"), item: all("item"), category: all("category"),
    rate: all("rate"), out: all("out"), add: all("add") };
}
