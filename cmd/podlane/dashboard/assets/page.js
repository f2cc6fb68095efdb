// The page: views by the hash of its address, lists from api/list, plots from api/state. Everything that users of the cluster wrote is set as text,
// never as HTML.

const $ = (id) => document.getElementById(id);
const limit = 50;

// element makes an element of a class with text or children in it.
function element(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children.filter((c) => c !== undefined && c !== null).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

const lines = (list) => element("ul", "inside", ...list.map((text) => element("li", "", text)));
const service = (b) => `${b.namespace}/${b.service}${b.port ? `:${b.port}` : ""}`;
const path = (r) => (r.default ? "(default backend)" : r.path);

// urlOf is a URL that the route answers, as far as its path is not a pattern.
function urlOf(r) {
  const host = (r.host || "any.example").replace(/^\*/, "any");
  return `${r.certificate ? "https" : "http"}://${host}${r.default || !r.path.startsWith("/") ? "/" : encodeURI(r.path).replace(/[?#]/g, encodeURIComponent)}`;
}

function milliseconds(seconds) {
  if (!seconds) return "–";
  const ms = seconds * 1000;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function expiry(c) {
  if (!c.notAfter || c.notAfter.startsWith("0001")) return ["–", ""];
  const days = Math.floor((new Date(c.notAfter) - Date.now()) / 86400000);
  const day = c.notAfter.slice(0, 10);
  if (days < 0) return [`${day} (expired)`, "bad"];
  return [`${day} (${days} days)`, days < 14 ? "warn" : ""];
}

const states = { ready: "good", serving: "warn", unready: "bad", ejected: "bad", draining: "warn", ok: "good", expired: "bad", stale: "warn", default: "warn", shadowed: "warn" };
const effects = { Notice: "", Ignored: "warn", Kept: "warn" };

// A list has columns: their heading, the class of their cells, and what is in one.
const lists = {
  routes: {
    empty: "There are no routes: no Ingress of a class that is served here.",
    columns: [
      ["Host", "name", (r) => r.host || "*"],
      ["Path", "name", (r) => Object.assign(element("a", "", path(r)), { href: `#explain?${new URLSearchParams({ url: urlOf(r) })}`, title: "Explain", tabIndex: -1 })],
      ["Type", "", (r) => (r.default ? "" : r.type)],
      ["Ingress", "name", (r) => `${r.namespace}/${r.ingress}`],
      ["Backends", "name", (r) => lines(r.backends.map((b) => service(b) + (r.backends.length > 1 ? ` (${b.weight})` : "") + (b.unavailable ? ` – ${b.unavailable}` : "")))],
      ["TLS", "", (r) => (r.certificate ? "yes" : "")],
      ["Policies", "text", (r) => (r.denied ? element("span", "bad", `answers 503: ${r.denied}`) : lines(r.policies || []))],
    ],
    open: (r) => { location.hash = `explain?${new URLSearchParams({ url: urlOf(r) })}`; },
  },
  endpoints: {
    empty: "There are no endpoints: no route has a Service with Pods.",
    columns: [
      ["Service", "name", (e) => service(e)],
      ["Pod", "name", (e) => e.pod || "–"],
      ["Address", "name", (e) => e.address],
      ["State", "", (e) => element("span", states[e.state] || "", e.state + (e.ejectedForSeconds ? `, ${Math.ceil(e.ejectedForSeconds)} s` : ""))],
      ["In flight", "number", (e) => e.inFlight],
      ["First byte", "number", (e) => milliseconds(e.firstByteSeconds)],
      ["Connections", "number", (e) => `${e.openConnections} (${e.idleConnections} idle)`],
      ["Failures", "number", (e) => element("span", e.failures ? "bad" : "", e.failures)],
      ["Node", "name", (e) => e.node || "–"],
    ],
    live: true,
  },
  certificates: {
    empty: "There are no certificates.",
    columns: [
      ["Hosts", "name", (c) => (c.default ? "(all other names)" : lines(c.hosts || []))],
      ["Secret", "name", (c) => (c.secret ? `${c.namespace}/${c.secret}` : "(self-signed)")],
      ["State", "", (c) => element("span", states[c.state] || "", c.state)],
      ["Expires", "", (c) => element("span", expiry(c)[1], expiry(c)[0])],
      ["Decided by", "name", (c) => c.owner || "–"],
    ],
  },
  problems: {
    empty: "There are no Problems.",
    columns: [
      ["Object", "name", (p) => `${p.kind} ${p.namespace ? p.namespace + "/" : ""}${p.name}`],
      ["Field", "name", (p) => p.field || "–"],
      ["Reason", "", (p) => p.reason],
      ["Effect", "", (p) => element("span", effects[p.effect] ?? "bad", p.effect)],
      ["What to do", "text", (p) => p.message + (p.source ? ` (${p.source})` : "")],
    ],
  },
};

let view = "", offset = 0, matched = 0, asked = 0;

async function get(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error((await response.text()).trim() || response.statusText);
  return response.json();
}

// show fills the table with a page of the list.
async function show(focusRow) {
  const list = lists[view], mine = ++asked, of = view;
  const query = new URLSearchParams({ q: $("q").value, offset, limit });
  let page;
  try {
    page = await get(`api/list/${of}?${query}`);
  } catch (e) {
    if (mine === asked) $("found").textContent = `no answer: ${e.message}`;
    return;
  }
  if (mine !== asked || view !== of) return; // a later question was faster
  matched = page.matched;
  const focused = focusRow ?? [...document.querySelectorAll("tbody tr")].indexOf(document.activeElement);
  document.querySelector("thead").replaceChildren(element("tr", "", ...list.columns.map(([name, className]) => {
    const th = element("th", className === "number" ? className : "", name);
    th.scope = "col";
    return th;
  })));
  const rows = page.rows.map((row) => {
    const tr = element("tr", "", ...list.columns.map(([, className, cell]) => element("td", className, cell(row))));
    tr.tabIndex = -1;
    if (list.open) tr.addEventListener("dblclick", () => list.open(row));
    tr.open = list.open && (() => list.open(row));
    return tr;
  });
  if (rows.length) rows[0].tabIndex = 0;
  else rows.push(element("tr", "", Object.assign(element("td", "empty", page.total ? "Nothing has all these words." : list.empty), { colSpan: list.columns.length })));
  document.querySelector("tbody").replaceChildren(...rows);
  $("found").textContent = !matched ? `0 of ${page.total}` : `${offset + 1}–${Math.min(offset + limit, matched)} of ${matched}` + (matched < page.total ? `, ${page.total} in all` : "");
  $("previous").disabled = offset === 0;
  $("next").disabled = offset + limit >= matched;
  if (focused >= 0 && page.rows.length) rows[Math.min(focused, rows.length - 1)].focus({ preventScroll: focusRow === undefined });
}

// selecting says whether text of the table is marked: it stays until it is copied.
function selecting() {
  const s = getSelection();
  return !s.isCollapsed && $("list").contains(s.anchorNode);
}

// remember puts search and page into the address, so that one may come back to them.
function remember() {
  const query = new URLSearchParams();
  if ($("q").value.trim()) query.set("q", $("q").value.trim());
  if (offset) query.set("offset", offset);
  history.replaceState(null, "", `#${view}${query.size ? `?${query}` : ""}`);
}

function turn(by) {
  const next = offset + by * limit;
  if (next < 0 || next >= matched) return;
  offset = next;
  remember();
  scrollTo(0, 0);
  show(-1);
}

// go shows the view of the address.
function go() {
  const [name, rest] = location.hash.slice(1).split(/\?(.*)/s);
  const query = new URLSearchParams(rest);
  view = lists[name] || name === "explain" ? name : "overview";
  for (const id of ["overview", "explain"]) $(`view-${id}`).hidden = view !== id;
  $("list").hidden = !lists[view];
  for (const a of document.querySelectorAll("nav a")) {
    if (a.hash.slice(1) === view) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  document.title = `${view[0].toUpperCase()}${view.slice(1)} – Podlane`;
  scrollTo(0, 0);
  if (view === "explain" && query.has("url")) {
    $("url").value = query.get("url");
    explain();
  }
  if (!lists[view]) return state();
  $("list").setAttribute("aria-label", view);
  $("enter").hidden = !lists[view].open;
  offset = Math.max(0, Math.floor(Number(query.get("offset")) || 0));
  $("q").value = query.get("q") ?? "";
  document.querySelector("tbody").replaceChildren();
  show(-1);
}

// state refreshes what stands at the top, and the plots.
async function state() {
  let s;
  try {
    s = await get("api/state");
  } catch (e) {
    $("state").textContent = `this replica does not answer: ${e.message}`;
    $("state").className = "bad";
    return;
  }
  const age = s.synced ? Math.max(0, Math.round((new Date(s.now) - new Date(s.synced)) / 1000)) : undefined;
  $("state").textContent = `${s.version} · table ${s.generation} · ${s.notReady ? `not ready: ${s.notReady}` : "ready"}` + (age === undefined ? "" : age > 60 ? ` · in sync ${age} s ago` : " · in sync");
  $("state").className = s.notReady || age > 300 ? "bad" : "";
  for (const span of document.querySelectorAll("[data-count]")) {
    span.textContent = s.counts[span.dataset.count];
    span.classList.toggle("some", span.dataset.count === "problems" && s.counts.problems > 0);
  }
  if (view === "overview") plots(s);
}

const share = (s) => (s.rate ? (100 * s.serverErrors) / s.rate : 0);
const short = (n) => (n >= 10000 ? `${Math.round(n / 1000)}k` : n >= 100 ? Math.round(n) : n >= 10 ? n.toFixed(1) : n ? n.toFixed(2).replace(/\.?0+$/, "") : "0");

function plots(s) {
  $("early").hidden = s.samples.length > 0;
  const last = s.samples.at(-1) || { rate: 0, clientErrors: 0, serverErrors: 0, inFlight: 0, p50: 0, p99: 0 };
  $("plots").replaceChildren(
    plot("Requests per second", s, [["all", (p) => p.rate], ["4xx", (p) => p.clientErrors], ["5xx", (p) => p.serverErrors]], [short(last.rate), short(last.clientErrors), short(last.serverErrors)]),
    plot("Answers that were 5xx, %", s, [["share", share, 3]], [`${short(share(last))} %`], 1),
    plot("Time of requests, ms", s, [["p50", (p) => p.p50], ["p99", (p) => p.p99, 2]], [`${short(last.p50)} ms`, `${short(last.p99)} ms`]),
    plot("Requests in flight", s, [["now", (p) => p.inFlight]], [last.inFlight]),
  );
}

const svg = (tag, attributes) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
};

// round up to 1, 2 or 5 times a power of ten.
function ceiling(n) {
  if (n <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 5, 10].map((f) => f * power).find((f) => f >= n);
}

// plot draws lines of 15 minutes. The picture is as wide as there is room, so it has no text: that stands beside it.
function plot(title, s, series, now, least = 0) {
  const width = 600, height = 160, span = 180 * s.everySeconds * 1000;
  const end = s.samples.length ? s.samples.at(-1).at : 0;
  const top = ceiling(Math.max(least, ...s.samples.flatMap((p) => series.map(([, f]) => f(p)))));
  const x = (at) => (1 - (end - at) / span) * width, y = (v) => height * (1 - v / top);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${series.map(([name], i) => `${name} ${now[i]}`).join(", ")}` });
  for (const part of [0, 0.5, 1]) picture.append(svg("line", { x1: 0, x2: width, y1: y(part * top), y2: y(part * top) }));
  series.forEach(([, f, colour], i) => {
    picture.append(svg("polyline", { class: `c${colour || i + 1}`, points: s.samples.map((p) => `${x(p.at).toFixed(1)},${y(f(p)).toFixed(1)}`).join(" ") }));
  });
  const scale = (className, texts) => {
    const e = element("div", className, ...texts.map((text) => element("span", "", text)));
    e.setAttribute("aria-hidden", "true");
    return e;
  };
  const keys = series.map(([name, , colour], i) => element("small", `k${colour || i + 1}`, `${name} ${now[i]}`));
  return element("figure", "", element("figcaption", "", element("b", "", title), ...keys),
    element("div", "plot", scale("up", [1, 0.5, 0].map((part) => short(part * top))), picture, scale("along", ["−15 min", "−10", "−5", "now"])));
}

async function explain() {
  const query = new URLSearchParams({ url: $("url").value.trim(), method: $("method").value.trim() || "GET" });
  if ($("client").value.trim()) query.set("client", $("client").value.trim());
  for (const field of $("fields").value.split("\n")) if (field.trim()) query.append("header", field.trim());
  $("answer").textContent = "…";
  try {
    const response = await fetch(`/debug/explain?${query}`);
    $("answer").textContent = await response.text();
  } catch (e) {
    $("answer").textContent = `no answer: ${e.message}`;
  }
}

function keys(event) {
  const typing = event.target.matches("input, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing && lists[view]) {
    $("q").focus();
    event.preventDefault();
    return;
  }
  if (!lists[view] || (typing && event.key !== "ArrowDown")) return;
  const rows = [...document.querySelectorAll("tbody tr")], at = rows.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (to !== undefined && rows[to] && (at >= 0 || event.key === "ArrowDown")) {
    rows[to].focus();
    event.preventDefault();
  } else if (at === 0 && event.key === "ArrowUp") $("q").focus();
  else if (event.key === "Enter" && at >= 0 && rows[at].open) rows[at].open();
  else if (event.key === "ArrowRight") turn(1);
  else if (event.key === "ArrowLeft") turn(-1);
}

addEventListener("hashchange", go);
addEventListener("keydown", keys);
let typed;
$("q").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => { offset = 0; remember(); show(-1); }, 120);
});
$("search").addEventListener("submit", (event) => event.preventDefault());
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("question").addEventListener("submit", (event) => { event.preventDefault(); explain(); });
setInterval(() => { if (!document.hidden) state(); }, 5000);
setInterval(() => { if (!document.hidden && lists[view]?.live && !selecting()) show(); }, 2000);
go();
state();
