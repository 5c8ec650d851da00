// Figures in the page itself: stat, table, bar gauge, text.

import { anchor } from "./links.js";
import { blend, fieldOf, inkOn, seriesName, shown } from "./values.js";

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

const number = ([, text]) => Number(text.replace("Inf", "Infinity"));

// [{labels, name, value}] of instant queries.
function figures(panel, answers) {
  return panel.targets.flatMap((target, index) =>
    answers[index].result.map((series) => ({
      labels: series.metric,
      name: seriesName(panel, target, series.metric),
      value: number(series.value ?? series.values.at(-1)),
    })));
}

export function stat(panel, answers, box) {
  const found = figures(panel, answers);
  const all = element("div", "stats");
  const named = panel.options.textMode === "value_and_name" || found.length > 1;
  for (const { name, value } of found) {
    const field = fieldOf(panel, name);
    const { text, colour } = shown(field, value);
    const one = element("div", "stat");
    if (named) one.append(element("span", "quiet", name));
    const figure = element("span", "figure", text);
    if (colour) figure.style.color = colour;
    one.append(figure);
    all.append(one);
  }
  if (!found.length) all.append(element("span", "nothing", panel.fieldConfig.defaults.noValue));
  box.replaceChildren(all);
}

export function bargauge(panel, answers, box) {
  const all = element("div", "bars");
  for (const { name, value } of figures(panel, answers)) {
    const field = fieldOf(panel, name);
    all.append(element("span", "quiet", name), bar(field, value));
  }
  box.replaceChildren(all);
}

export function text(panel, _answers, box) {
  box.replaceChildren(element("div", "prose", panel.options.content));
}

function bar(field, value) {
  const { text: words, colour } = shown(field, value);
  const made = element("span", "bar");
  const meter = element("span", "filled");
  const low = field.min ?? 0;
  const share = (value - low) / ((field.max ?? Math.max(1, value)) - low);
  meter.style.width = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  if (colour) meter.style.background = colour;
  const track = element("span", "track");
  track.append(meter);
  made.append(track, element("span", "", words));
  return made;
}

export function table(panel, answers, box, view) {
  const { columns, rows } = transformed(panel, answers);
  if (!rows.length) {
    box.replaceChildren(element("div", "nothing", panel.fieldConfig.defaults.noValue));
    return;
  }
  const made = element("table");
  const head = made.createTHead().insertRow();
  const numeric = (column) => rows.some((row) => typeof row[column] === "number");
  for (const column of columns) head.append(element("th", numeric(column) ? "number" : "", column));
  const scale = range(rows, columns);
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const column of columns) cell(line.insertCell(), fieldOf(panel, column), row, column, view, scale);
  }
  const scroll = element("div", "scroll");
  scroll.append(made);
  box.replaceChildren(scroll);
}

function cell(place, field, row, column, view, scale) {
  const value = row[column];
  if (value === undefined || value === null) return;
  const { text: words, colour } = shown(field, value);
  const kind = field.custom.cellOptions?.type ?? "auto";
  if (typeof value === "number") place.className = "number";
  if (kind === "gauge") place.append(bar(field, value));
  else if (field.links?.length) place.append(anchor(words, field.links[0], view, { row }), ...more(field, row, view));
  else place.textContent = words;
  if (kind === "color-text" && colour) (place.firstElementChild ?? place).style.color = colour;
  if (kind === "color-background") {
    const continuous = field.color?.mode === "continuous-BlPu" && typeof value === "number";
    const fill = continuous ? blend("#edf4fa", "#81337f", scale(value)) : colour;
    if (fill) Object.assign(place.style, { background: fill, color: inkOn(fill) });
  }
}

const more = (field, row, view) =>
  field.links.slice(1).flatMap((link) => [" ", anchor("↗", link, view, { row })]);

function range(rows, columns) {
  const values = rows.flatMap((row) => columns.map((column) => row[column])).filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return (value) => (high > low ? (value - low) / (high - low) : 0);
}

// The rows that Grafana's transformations make of the answers.
function transformed(panel, answers) {
  let frames = panel.targets.map((target, index) => ({
    value: panel.targets.length > 1 ? `Value #${target.refId}` : "Value",
    rows: answers[index].result.map((series) => ({ labels: series.metric, value: number(series.value) })),
  }));
  let rows = frames.flatMap(({ value, rows: each }) =>
    each.map((row) => ({ ...row.labels, [value]: row.value })));
  let columns = [...new Set(rows.flatMap(Object.keys))];
  for (const { id, options } of panel.transformations ?? []) {
    if (id === "joinByField") rows = joined(frames, options.byField);
    if (id === "groupingToMatrix") rows = matrix(rows, options);
    columns = [...new Set(rows.flatMap(Object.keys))];
    if (id === "organize") ({ rows, columns } = organized(rows, columns, options));
  }
  const by = panel.options.sortBy?.[0];
  if (by && columns.includes(by.displayName)) {
    const order = (a, b) => String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
    rows.sort((a, b) => (by.desc ? -1 : 1) * order(a[by.displayName], b[by.displayName]));
  }
  return { rows, columns };
}

function joined(frames, key) {
  const found = new Map();
  for (const { value, rows } of frames) {
    for (const row of rows) {
      const at = row.labels[key];
      found.set(at, { ...found.get(at), [key]: at, [value]: row.value });
    }
  }
  return [...found.values()];
}

function matrix(rows, { columnField, rowField, valueField }) {
  const corner = `${rowField}\\${columnField}`;
  const found = new Map();
  for (const row of rows) {
    const at = row[rowField];
    found.set(at, { ...found.get(at), [corner]: at, [row[columnField]]: row[valueField] });
  }
  return [...found.values()];
}

function organized(rows, columns, { excludeByName, indexByName, renameByName }) {
  const place = (name) => indexByName[name] ?? Number.MAX_SAFE_INTEGER;
  const kept = columns.filter((name) => !excludeByName[name]).sort((a, b) => place(a) - place(b));
  const title = (name) => renameByName[name] ?? name;
  return {
    columns: kept.map(title),
    rows: rows.map((row) => Object.fromEntries(kept.map((name) => [title(name), row[name]]))),
  };
}
