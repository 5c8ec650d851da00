// How a value reads: units, colours, mappings, overrides and legends, as Grafana has them.

const NAMED = {
  green: "#56a64b", yellow: "#e0b400", orange: "#ff780a", red: "#e02f44",
  blue: "#3274d9", "light-blue": "#8ab8ff", purple: "#a352cc",
};
const PALETTE = [
  "#56a64b", "#e0b400", "#3fb6d3", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
  "#2f575e", "#cca300", "#0a50a1", "#c15c17", "#890f02", "#6d1f62", "#584477", "#9ac48a",
];
const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"]];
const IEC = [[2 ** 40, "Ti"], [2 ** 30, "Gi"], [2 ** 20, "Mi"], [2 ** 10, "Ki"], [1, ""]];
const MANY = [[1e12, " Tri"], [1e9, " Bil"], [1e6, " Mil"], [1e3, " K"], [1, ""]];
const SECONDS = [
  [31536000, " years"], [604800, " weeks"], [86400, " days"], [3600, " hours"], [60, " min"],
  [1, " s"], [1e-3, " ms"], [1e-6, " µs"], [1e-9, " ns"],
];
const plain = (value, decimals) => rounded(value, decimals, "");
const UNITS = {
  none: plain,
  short: (value, decimals) => scaled(value, decimals, MANY, ""),
  percentunit: (value, decimals) => rounded(value * 100, decimals, "%"),
  s: (value, decimals) => scaled(value, decimals, SECONDS, ""),
  reqps: (value, decimals) => scaled(value, decimals, MANY, " req/s"),
  cps: (value, decimals) => scaled(value, decimals, MANY, " c/s"),
  bytes: (value, decimals) => scaled(value, decimals, IEC, "B", " "),
  Bps: (value, decimals) => scaled(value, decimals, SI, "B/s", " "),
  watt: (value, decimals) => scaled(value, decimals, SI, "W", " "),
  kwatth: (value, decimals) => scaled(value * 1000, decimals, SI, "Wh", " "),
  joule: (value, decimals) => scaled(value, decimals, SI, "J", " "),
  massg: (value, decimals) => scaled(value, decimals, SI, "g", " "),
  hertz: (value, decimals) => scaled(value, decimals, SI, "Hz", " "),
  celsius: (value, decimals) => rounded(value, decimals, " °C"),
};

function rounded(value, decimals, unit) {
  const size = Math.abs(value);
  const usual = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 0.01 ? 2 : 4;
  return value.toFixed(decimals ?? usual) + unit;
}

function scaled(value, decimals, scale, unit, space = "") {
  if (!value) return rounded(0, decimals ?? 0, `${space}${scale === SECONDS ? " s" : unit}`);
  const size = Math.abs(value);
  const [factor, prefix] = scale.find(([least]) => size >= least) ?? scale.at(-1);
  return rounded(value / factor, decimals, `${space}${prefix}${unit}`);
}

export const knownUnit = (unit) => unit === undefined || unit in UNITS;

export function format(value, field) {
  if (value === null || value === undefined) return "";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  return (UNITS[field.unit] ?? plain)(value, field.decimals);
}

// The field's options where overrides of this name are put over the defaults.
export function fieldOf(panel, name) {
  const { defaults, overrides } = panel.fieldConfig;
  const field = { ...defaults, custom: { ...defaults.custom } };
  for (const { matcher, properties } of overrides) {
    if (!matches(matcher, name)) continue;
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) field.custom[id.slice(7)] = value;
      else field[id] = value;
    }
  }
  return field;
}

function matches({ id, options }, name) {
  if (id === "byName") return options === name;
  const inSlashes = /^\/(.*)\/([a-z]*)$/s.exec(options);
  return inSlashes ? new RegExp(inSlashes[1], inSlashes[2]).test(name) : new RegExp(options).test(name);
}

export const colour = (name) => NAMED[name] ?? name;
export const paletteColour = (index) => PALETTE[index % PALETTE.length];

export function stepColour(field, value) {
  const reached = (field.thresholds?.steps ?? []).filter((step) => step.value === null || value >= step.value);
  return reached.length ? colour(reached.at(-1).color) : undefined;
}

const mapped = (field, value) =>
  (field.mappings ?? []).map((each) => each.options[String(value)]).find((each) => each);

// {text, colour} of one value: words of a mapping, else the figure with its unit.
export function shown(field, value) {
  const word = mapped(field, value);
  if (word) return { text: word.text, colour: word.color ? colour(word.color) : stepColour(field, value) };
  const number = typeof value === "number";
  return { text: number ? format(value, field) : (value ?? ""), colour: number ? stepColour(field, value) : undefined };
}

// A line's colour: its last value's, where the colours are those of the values.
export function lineColour(field, values, index) {
  if (field.color?.mode !== "thresholds") return paletteColour(index);
  const last = values.findLast((value) => value !== null);
  return shown(field, last ?? 0).colour ?? paletteColour(index);
}

export function legend(pattern, labels) {
  if (pattern && pattern !== "__auto") {
    return pattern.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? "").trim();
  }
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.entries(rest).map(([label, value]) => `${label}="${value}"`);
  return name + (pairs.length ? `{${pairs.join(", ")}}` : "") || "value";
}

// A series' name in its panel: the legend, as a transformation may shorten it.
export function seriesName(panel, target, labels) {
  const renaming = (panel.transformations ?? []).filter(({ id }) => id === "renameByRegex");
  return renaming.reduce((name, { options }) => {
    const [, pattern, flags] = /^\/(.*)\/([a-z]*)$/s.exec(options.regex);
    return name.replace(new RegExp(pattern, flags), options.renamePattern);
  }, legend(target.legendFormat, labels));
}

// Black or white, whichever is read more easily on a colour.
export function inkOn(hex) {
  const [red, green, blue] = [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  return red * 0.3 + green * 0.59 + blue * 0.11 > 150 ? "#1b1c19" : "#ffffff";
}

export function blend(from, to, share) {
  const part = (at) => {
    const [low, high] = [from, to].map((hex) => Number.parseInt(hex.slice(at, at + 2), 16));
    return Math.round(low + (high - low) * share).toString(16).padStart(2, "0");
  };
  return `#${part(1)}${part(3)}${part(5)}`;
}
