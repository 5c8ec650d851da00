// What goes over time: lines by uPlot, bands of states and heat maps on its axes.

import { anchor } from "./links.js";
import { blend, fieldOf, format, inkOn, lineColour, seriesName, shown } from "./values.js";

const { uPlot } = window;
// Between labels of the time axis, in seconds.
const STEPS = [1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 259200, 604800];
const charts = new WeakMap();
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (text) => Number(text.replace("Inf", "Infinity"));

// One row of times for all series, and each series' values on it; null where it has none.
function aligned(panel, answers, over) {
  const series = panel.targets.flatMap((target, index) =>
    answers[index].result.map(({ metric, values }) => ({
      labels: metric,
      name: seriesName(panel, target, metric),
      found: new Map(values.map(([at, value]) => [at, number(value)])),
    })));
  const step = Math.min(...answers.map((each) => each.step));
  const times = [];
  for (let at = Math.floor(over.since / step) * step; at <= over.until; at += step) times.push(at);
  const known = [...new Set(series.flatMap(({ found }) => [...found.keys()]))];
  const all = [...new Set([...times, ...known])].sort((a, b) => a - b);
  return {
    times: all,
    step,
    series: series.map(({ labels, name, found }) => ({
      labels, name, values: filled(all, found, answers, step),
    })),
  };
}

// A query with longer steps than its neighbours is no row of gaps.
function filled(times, found, answers, step) {
  const longest = Math.max(...answers.map((each) => each.step));
  let last = [0, null];
  return times.map((at) => {
    if (found.has(at)) {
      const value = found.get(at);
      last = [at, Number.isFinite(value) ? value : null];
      return last[1];
    }
    return longest > step && at - last[0] < longest ? last[1] : null;
  });
}

export function timeseries(panel, answers, box, view) {
  const { times, series } = aligned(panel, answers, view.over);
  if (!series.length) return nothing(panel, box);
  const fields = series.map(({ name }) => fieldOf(panel, name));
  const colours = series.map(({ values }, index) => lineColour(fields[index], values, index));
  const stacked = panel.fieldConfig.defaults.custom.stacking.mode === "normal";
  const drawn = stacked ? sums(series.map(({ values }) => values)) : series.map(({ values }) => values);
  const options = {
    ...frame(box, view, panel.fieldConfig.defaults, widest(drawn)),
    series: [{}, ...series.map(({ name }, index) => ({
      label: name,
      stroke: colours[index],
      width: fields[index].custom.lineWidth,
      dash: fields[index].custom.lineStyle?.dash,
      fill: stacked || !fields[index].custom.fillOpacity
        ? undefined
        : colours[index] + Math.round(fields[index].custom.fillOpacity * 2.55).toString(16).padStart(2, "0"),
      points: { show: times.length < 3 },
      spanGaps: false,
    }))],
    bands: stacked
      ? series.slice(1).map((_, index) => ({ series: [index + 2, index + 1], fill: `${colours[index + 1]}4d` }))
      : undefined,
  };
  if (stacked) options.series[1].fill = `${colours[0]}4d`;
  options.hooks.setCursor = [(plot) => tip(plot, view, (at) => ({
    at: times[at],
    lines: series
      .map(({ name, values }, index) => ({ name, colour: colours[index], value: values[at], field: fields[index] }))
      .filter(({ value }) => value !== null && value !== undefined)
      .sort((a, b) => b.value - a.value)
      .map((line) => ({ ...line, text: shown(line.field, line.value).text })),
  }))];
  const keys = series.map(({ name, labels, values }, index) => ({
    name, labels, colour: colours[index], field: fields[index], last: values.at(-1),
  }));
  plot(options, [times, ...drawn], box, keysOf(keys, view));
}

function sums(rows) {
  let below = rows[0].map(() => 0);
  return rows.map((row) => {
    below = row.map((value, at) => below[at] + (value ?? 0));
    return below.map((value, at) => (rows.every((each) => each[at] === null) ? null : value));
  });
}

function widest(rows) {
  const values = rows.flat().filter((value) => value !== null);
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

// What all charts share: size, axes, the marks of the annotations, one cursor for all.
function frame(box, view, field, [low, high]) {
  const axis = { stroke: style("--quiet"), grid: { stroke: style("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const least = field.min ?? Math.min(low, 0);
  const most = field.max ?? (high > least ? high : least + 1);
  return {
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [8, 24, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "boards", setSeries: false }, drag: { x: true, y: false, setScale: false } },
    scales: {
      x: { time: true, range: () => [view.over.since, view.over.until] },
      y: { range: () => [least, field.max ?? least + (most - least) * 1.05] },
    },
    axes: [
      { ...axis, size: 24, incrs: STEPS, space: (_, __, low, high) => (high - low < 900 ? 66 : 46), values: (_, splits, __, ___, gap) => splits.map((at) => clock(at, gap)) },
      { ...axis, size: 62, space: 24, values: (_, splits) => splits.map((value) => format(value, { unit: field.unit })) },
    ],
    hooks: {
      draw: [(made) => drawMarks(made, view.marks)],
      setSelect: [(made) => {
        if (made.select.width < 8) return;
        view.zoom(made.posToVal(made.select.left, "x"), made.posToVal(made.select.left + made.select.width, "x"));
      }],
    },
  };
}

function clock(at, gap) {
  const time = new Date(at * 1000);
  if (gap >= 86400) return time.toLocaleDateString("en-GB", { day: "2-digit", month: "2-digit" });
  return time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(gap < 60 ? { second: "2-digit" } : {}) });
}

function drawMarks(made, marks) {
  const { ctx, bbox } = made;
  ctx.save();
  ctx.setLineDash([4, 4]);
  for (const { at, colour } of marks) {
    const x = Math.round(made.valToPos(at, "x", true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

// A panel keeps its chart while the panel is as it was; a refresh draws it again.
function plot(options, data, box, keys) {
  charts.get(box)?.destroy();
  const area = document.createElement("div");
  area.className = "chart";
  box.replaceChildren(area, ...(keys ? [keys] : []));
  options.height = area.clientHeight;
  options.width = area.clientWidth;
  charts.set(box, new uPlot(options, data, area));
}

function keysOf(keys, view) {
  const list = document.createElement("div");
  list.className = "keys";
  for (const { name, labels, colour, field } of keys) {
    const key = document.createElement("span");
    const dot = document.createElement("i");
    dot.style.background = colour;
    key.append(dot, field.links?.length ? anchor(name, field.links[0], view, { labels }) : name);
    list.append(key);
  }
  return list;
}

const bubble = document.createElement("div");
bubble.className = "tip";
bubble.hidden = true;
document.body.append(bubble);

function tip(made, view, contentAt) {
  const { idx, left, top } = made.cursor;
  const mine = made.root.matches(":hover");
  if (!mine || left < 0 || idx === null || idx === undefined) {
    if (mine || !document.querySelector(".uplot:hover")) bubble.hidden = true;
    return;
  }
  const { at, lines } = contentAt(idx);
  const near = view.marks.filter((mark) => Math.abs(made.valToPos(mark.at, "x") - left) < 5);
  bubble.replaceChildren(
    line(new Date(at * 1000).toLocaleString("en-GB")),
    ...near.map((mark) => line(mark.text, mark.colour)),
    ...lines.slice(0, 20).map(({ name, text, colour }) => line(`${name}: ${text}`, colour)),
  );
  bubble.hidden = false;
  const place = made.over.getBoundingClientRect();
  const x = Math.min(place.left + left + 14, document.documentElement.clientWidth - bubble.offsetWidth - 8);
  bubble.style.left = `${x + scrollX}px`;
  bubble.style.top = `${place.top + top + 14 + scrollY}px`;
}

function line(text, colour) {
  const made = document.createElement("div");
  if (colour) {
    const dot = document.createElement("i");
    dot.style.background = colour;
    made.append(dot);
  }
  made.append(text);
  return made;
}

function nothing(panel, box) {
  charts.get(box)?.destroy();
  charts.delete(box);
  const words = document.createElement("div");
  words.className = "nothing";
  words.textContent = panel.fieldConfig.defaults.noValue;
  box.replaceChildren(words);
}

export function stateTimeline(panel, answers, box, view) {
  const { times, series, step } = aligned(panel, answers, view.over);
  if (!series.length) return nothing(panel, box);
  const rows = series.map(({ name, values }) => ({ name, values, field: fieldOf(panel, name) }));
  const options = frame(box, view, { min: 0, max: rows.length }, [0, rows.length]);
  options.axes[1] = {
    ...options.axes[1],
    size: Math.min(220, 20 + 6.6 * Math.max(...rows.map(({ name }) => name.length))),
    splits: () => rows.map((_, index) => rows.length - index - 0.5),
    values: () => rows.map(({ name }) => name),
    grid: { show: false },
  };
  options.series = [{}, ...rows.map(({ name }) => ({ label: name, stroke: "transparent", points: { show: false } }))];
  options.hooks.draw.unshift((made) => drawStates(made, rows, times, step));
  options.hooks.setCursor = [(made) => tip(made, view, (at) => ({
    at: times[at],
    lines: rows
      .filter(({ values }) => values[at] !== null)
      .map(({ name, field, values }) => ({ name, ...shown(field, values[at]) })),
  }))];
  plot(options, [times, ...rows.map(({ values }) => values)], box);
}

function drawStates(made, rows, times, step) {
  const { ctx, bbox } = made;
  const height = bbox.height / rows.length;
  const edge = (at) => Math.min(Math.max(made.valToPos(at, "x", true), bbox.left), bbox.left + bbox.width);
  ctx.save();
  ctx.font = `${11 * devicePixelRatio}px system-ui`;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  rows.forEach(({ values, field }, row) => {
    const top = bbox.top + row * height + height * 0.08;
    for (const [from, to, value] of runs(times, values, step)) {
      const { text, colour } = shown(field, value);
      const [left, right] = [edge(from), edge(to)];
      ctx.fillStyle = colour ?? style("--line");
      ctx.fillRect(left, top, Math.max(1, right - left), height * 0.84);
      if (ctx.measureText(text).width + 6 > right - left) continue;
      ctx.fillStyle = inkOn(colour ?? "#cccccc");
      ctx.fillText(text, left + 3, top + height * 0.42);
    }
  });
  ctx.restore();
}

// [from, to, value] of neighbours that are the same.
function runs(times, values, step) {
  const found = [];
  values.forEach((value, at) => {
    if (value === null) return;
    const last = found.at(-1);
    if (last && last[2] === value && last[1] >= times[at]) last[1] = times[at] + step;
    else found.push([times[at], times[at] + step, value]);
  });
  return found;
}

export function heatmap(panel, answers, box, view) {
  const { times, series, step } = aligned(panel, answers, view.over);
  const edges = series
    .map(({ labels, values }) => ({ edge: number(labels.le), values }))
    .sort((a, b) => a.edge - b.edge);
  const rows = edges.map(({ edge, values }, index) => ({
    edge,
    values: values.map((value, at) => (value === null ? null : Math.max(0, value - (edges[index - 1]?.values[at] ?? 0)))),
  }));
  const used = rows.map(({ values }) => values.some((value) => value > panel.options.filterValues.le));
  const [first, last] = [used.indexOf(true), used.lastIndexOf(true)];
  if (first < 0) return nothing(panel, box);
  const kept = rows.slice(first, last + 1);
  const unit = { unit: panel.options.yAxis.unit };
  const options = frame(box, view, { min: 0, max: kept.length }, [0, kept.length]);
  const every = Math.ceil(kept.length / 8);
  options.axes[1] = {
    ...options.axes[1],
    splits: () => kept.map((_, index) => index + 1).filter((_, index) => index % every === every - 1 || kept.length < 9),
    values: (_, splits) => splits.map((at) => format(kept[at - 1]?.edge, unit)),
    grid: { show: false },
  };
  options.series = [{}, ...kept.map(({ edge }) => ({ label: String(edge), stroke: "transparent", points: { show: false } }))];
  options.hooks.draw.unshift((made) => drawHeat(made, kept, times, step));
  options.hooks.setCursor = [(made) => tip(made, view, (at) => ({
    at: times[at],
    lines: kept
      .filter(({ values }) => values[at] > 0)
      .map(({ edge, values }) => ({ name: `≤ ${format(edge, unit)}`, text: format(values[at], { unit: "none" }) }))
      .reverse(),
  }))];
  plot(options, [times, ...kept.map(({ values }) => values)], box);
}

function drawHeat(made, rows, times, step) {
  const { ctx, bbox } = made;
  const most = Math.max(...rows.flatMap(({ values }) => values.map((value) => value ?? 0)));
  const height = bbox.height / rows.length;
  ctx.save();
  rows.forEach(({ values }, row) => values.forEach((value, at) => {
    if (!(value > 0)) return;
    const left = Math.max(bbox.left, made.valToPos(times[at], "x", true));
    const right = Math.min(bbox.left + bbox.width, made.valToPos(times[at] + step, "x", true));
    if (right <= left) return;
    ctx.fillStyle = blend("#feedde", "#d94801", Math.sqrt(value / most));
    ctx.fillRect(left, bbox.top + (rows.length - row - 1) * height, Math.max(1, right - left - 1), Math.max(1, height - 1));
  }));
  ctx.restore();
}
