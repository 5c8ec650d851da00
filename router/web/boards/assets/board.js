// One board of grafana/dashboards, drawn from live queries that the router asks for us.

import { heatmap, stateTimeline, timeseries } from "./charts.js";
import { bargauge, stat, table, text } from "./tables.js";
import { colour, knownUnit, legend } from "./values.js";

const DRAWN = {
  stat, table, timeseries, heatmap, bargauge, text, "state-timeline": stateTimeline,
};
const TRANSFORMED = new Set(["joinByField", "groupingToMatrix", "organize", "renameByRegex"]);
const MATCHED = new Set(["byName", "byRegexp"]);
const CELLS = new Set(["auto", "color-text", "color-background", "gauge"]);
const MOST_AT_ONCE = 4;
const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };
const uid = document.body.querySelector("[data-board]").dataset.board;
const asked = new URLSearchParams(location.search);

// Asking

let free = MOST_AT_ONCE;
const queue = [];

async function turn(work) {
  if (free > 0) free -= 1;
  else await new Promise((resolve) => queue.push(resolve));
  try {
    return await work();
  } finally {
    const next = queue.shift();
    if (next) next();
    else free += 1;
  }
}

async function read(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 429) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return read(path);
  }
  const found = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error?.message ?? found.error);
  return { ...found, step: Number(answer.headers.get("X-InferOps-Step")) };
}

const ask = (path, view, points) => turn(() => read(`/boards/${uid}/${path}?${view.query(points)}`));

// What is chosen: times as Grafana writes them, variables by name.

function seconds(text, now) {
  const back = /^now(?:-(\d+)([smhd]))?$/.exec(text);
  if (back) return now - (back[1] ?? 0) * (UNITS[back[2]] ?? 0);
  return /^\d+$/.test(text) ? Number(text) / 1000 : now;
}

function viewOf(board) {
  const own = Object.fromEntries(board.templating.list.map((each) => [each.name, each]));
  const chosen = {};
  for (const [name, { type }] of Object.entries(own)) {
    const values = asked.getAll(`var-${name}`);
    if (values.length && type !== "datasource") chosen[name] = values;
  }
  const shownAt = chosen.prometheus_url?.[0] ?? "";
  const prometheus = /^https?:\/\//.test(shownAt) ? shownAt : own.prometheus_url.query;
  const sent = Object.keys(chosen).filter((name) => !name.endsWith("_url"));
  const [from, to] = [asked.get("from") ?? board.time.from, asked.get("to") ?? board.time.to];
  return {
    from, to, chosen, prometheus, marks: [], over: {},
    look() {
      const now = Date.now() / 1000;
      this.over = { since: seconds(from, now), until: seconds(to, now) };
    },
    query(points) {
      const given = sent.flatMap((name) => chosen[name].map((each) => [`var-${name}`, each]));
      const { since, until } = this.over;
      return new URLSearchParams([["from", since], ["to", until], ["points", points], ...given]);
    },
    zoom: (since, until) => go({ from: Math.round(since * 1000), to: Math.round(until * 1000) }),
  };
}

function go(changes) {
  for (const [name, value] of Object.entries(changes)) {
    asked.delete(name);
    for (const each of [value].flat()) asked.append(name, each);
  }
  location.search = asked;
}

// Panels

const element = (name, className, words) => {
  const made = document.createElement(name);
  made.className = className;
  if (words !== undefined) made.textContent = words;
  return made;
};

// What of a panel Grafana would show and this page does not.
function missing(panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  const settings = [defaults, ...overrides.map(({ properties }) =>
    Object.fromEntries(properties.map(({ id, value }) => [id.replace("custom.", ""), value])))];
  const cells = [defaults.custom?.cellOptions, ...settings.map((each) => each.cellOptions)];
  return [
    ...(panel.type in DRAWN ? [] : [`panels of type ${panel.type}`]),
    ...(panel.transformations ?? []).filter(({ id }) => !TRANSFORMED.has(id)).map(({ id }) => `the transformation ${id}`),
    ...overrides.filter(({ matcher }) => !MATCHED.has(matcher.id)).map(({ matcher }) => `overrides ${matcher.id}`),
    ...settings.filter(({ unit }) => !knownUnit(unit)).map(({ unit }) => `the unit ${unit}`),
    ...settings.flatMap(({ mappings = [] }) => mappings).filter(({ type }) => type !== "value").map(({ type }) => `mappings of type ${type}`),
    ...cells.filter((each) => each && !CELLS.has(each.type)).map(({ type }) => `cells of type ${type}`),
  ];
}

function placed(panel, top) {
  const { x, y, w, h } = panel.gridPos;
  const made = element("section", panel.type === "row" ? "row" : "panel");
  Object.assign(made.style, { gridColumn: `${x + 1} / span ${w}`, gridRow: `${y + 1 - top} / span ${h}` });
  if (panel.type === "row") {
    made.append(element("h2", "", panel.title));
    return { made };
  }
  const title = element("h3", "", panel.title);
  const about = element("span", "about", "i");
  about.title = panel.description;
  about.setAttribute("aria-label", panel.description);
  about.setAttribute("role", "note");
  title.append(about);
  const cannot = missing(panel);
  const note = element("p", "cannot", `This page cannot draw ${[...new Set(cannot)].join(", ")}. Grafana can.`);
  const box = element("div", "content");
  const fault = element("p", "fault");
  made.append(title, ...(cannot.length ? [note] : []), fault, box);
  return { made, box, fault };
}

const pointsOf = (box) => Math.min(1000, Math.max(50, Math.floor(box.clientWidth / 2)));

async function draw(panel, { made, box, fault }, view) {
  if (!box || !(panel.type in DRAWN)) return;
  try {
    const points = pointsOf(box);
    const answers = await Promise.all((panel.targets ?? []).map(async (target) => {
      const { data, step } = await ask(`panels/${panel.id}/${target.refId}`, view, points);
      return { ...data, step };
    }));
    fault.textContent = "";
    DRAWN[panel.type](panel, answers, box, view);
  } catch (error) {
    fault.textContent = error.message;
  }
  made.dataset.drawn = "yes";
}

const span = (text) => {
  const found = /^(\d+)([smhd])$/.exec(text ?? "");
  return found ? found[1] * UNITS[found[2]] : 0;
};

// Where each mark begins; what was there from the first point on began earlier.
async function marksOf(board, view) {
  const lists = await Promise.all(board.annotations.list.map(async (mark, index) => {
    if (hidden.has(mark.name)) return [];
    const { data, step } = await ask(`marks/${index}`, view, 300);
    return data.result.flatMap(({ metric, values }) =>
      values.filter(([at], i) => (i ? at - values[i - 1][0] > step : at > view.over.since + step))
        .map(([at]) => ({ at, colour: colour(mark.iconColor), text: legend(mark.titleFormat, metric) })));
  }));
  return lists.flat();
}

// The top of the page

const hidden = new Set();
const bar = document.getElementById("choices");

async function choices(board, view) {
  const ranges = ["now-5m", "now-30m", "now-3h", "now-6h", "now-24h", "now-7d", "now-30d"];
  const range = labelled("Time", select(
    [...new Set([view.from, ...ranges])].map((each) => [each, words(each, view)]), [view.from]));
  range.select.onchange = () => go({ from: range.select.value, to: "now" });
  bar.append(range.label);
  for (const variable of board.templating.list) {
    if (variable.hide || variable.type === "datasource") continue;
    bar.append(variable.type === "query" ? await listOf(variable, view) : boxOf(variable, view));
  }
  for (const mark of board.annotations.list) bar.append(switchOf(mark, board, view));
}

const words = (from, view) => {
  if (from.startsWith("now-")) return `last ${from.slice(4)}`;
  const at = (text) => (text === "now" ? "now" : new Date(Number(text)).toLocaleString("en-GB", {
    day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  }));
  return `${at(from)} to ${at(view.to)}`;
};

function select(options, chosen) {
  const made = document.createElement("select");
  for (const [value, label] of options) made.append(new Option(label, value, false, chosen.includes(value)));
  return made;
}

function labelled(name, control) {
  const label = element("label", "choice", name);
  label.append(control);
  return { label, select: control };
}

async function listOf(variable, view) {
  const { data } = await ask(`variables/${variable.name}`, view, 2).catch(() => ({ data: [] }));
  const chosen = view.chosen[variable.name] ?? ["$__all"];
  const several = chosen.length > 1 ? [[chosen.join(", "), chosen.join(", ")]] : [];
  const values = [...new Set([...data, ...chosen])].filter((each) => each !== "$__all").sort();
  const list = select([["$__all", "All"], ...several, ...values.map((each) => [each, each])],
    several.length ? several[0] : chosen);
  list.onchange = () => go({ [`var-${variable.name}`]: list.value });
  return labelled(variable.label, list).label;
}

function boxOf(variable, view) {
  const box = document.createElement("input");
  box.value = view.chosen[variable.name]?.[0] ?? variable.query;
  box.inputMode = "decimal";
  box.size = 6;
  box.onchange = () => go({ [`var-${variable.name}`]: box.value });
  return labelled(variable.label, box).label;
}

function switchOf(mark, board, view) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = true;
  box.onchange = () => {
    if (box.checked) hidden.delete(mark.name);
    else hidden.add(mark.name);
    refresh(board, view);
  };
  const { label } = labelled(mark.name, box);
  label.classList.add("mark");
  label.style.borderColor = colour(mark.iconColor);
  return label;
}

// Drawing it all, again and again

let places;
let busy = false;

async function refresh(board, view) {
  if (busy) return;
  busy = true;
  view.look();
  view.marks = await marksOf(board, view).catch(() => []);
  await Promise.all(board.panels.map((panel, index) => draw(panel, places[index], view)));
  document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
  busy = false;
}

// The other boards, with the same nodes and the time where one was chosen.
function leadOn(view) {
  const kept = new URLSearchParams((view.chosen.node ?? []).map((each) => ["var-node", each]));
  for (const name of ["from", "to"]) if (asked.has(name)) kept.set(name, asked.get(name));
  for (const link of document.querySelectorAll("#boards a")) link.search = kept;
}

const board = await read(`/boards/${uid}/board.json`);
const view = viewOf(board);
view.look();
const grid = document.getElementById("grid");
places = board.panels.map((panel) => placed(panel, 0));
grid.append(...places.map(({ made }) => made));
leadOn(view);
await choices(board, view);
await refresh(board, view);
setInterval(() => document.hidden || view.to !== "now" || refresh(board, view), span(board.refresh) * 1000);
addEventListener("resize", () => refresh(board, view));
