// What the pages share: calls that fail in words, figures for people.

export const OVER = new Set(["completed", "failed", "expired", "cancelled"]);
const WORDS = {
  validating: "reading the file", in_progress: "running",
  finalizing: "finishing", cancelling: "ending",
};

export const $ = (id) => document.getElementById(id);

export function words(job) {
  if (job.parked && !OVER.has(job.state)) return "parked";
  if (job.paused && job.state === "in_progress") return "paused";
  return WORDS[job.state] || job.state;
}

export function over(items) {
  return items.done + items.failed + items.cancelled;
}

export function number(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: value >= 100 ? 0 : digits });
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

// Make an element; text is never taken for markup.
export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

export class Refused extends Error {
  constructor(message, param) {
    super(message);
    this.param = param;
  }
}

export function refusal(status, text) {
  try {
    const { message, param } = JSON.parse(text).error;
    return new Refused(message, param);
  } catch {
    return new Refused(`the router answered ${status}`, null);
  }
}

// What a change needs where somebody is logged in.
export function csrf() {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  return token ? { "X-CSRF-Token": token } : {};
}

export async function call(method, path, body, more = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? csrf() : { "Content-Type": "application/json", ...csrf() },
      body: body === undefined ? undefined : JSON.stringify(body),
      ...more,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("the router does not answer", null);
  }
  const text = await answer.text();
  if (!answer.ok) throw refusal(answer.status, text);
  return text ? JSON.parse(text) : null;
}
