// Keeps the list of jobs current while it is looked at.

import { OVER, call, over, words } from "./shared.js";

const EVERY_MS = 3000;
const cards = new Map(
  [...document.querySelectorAll("[data-job]")].map((card) => [card.dataset.job, card]),
);

function show(card, job) {
  const items = job.progress.items;
  const badge = card.querySelector(".badge");
  const paused = job.paused && job.state === "in_progress";
  badge.textContent = words(job);
  badge.dataset.state = paused ? "paused" : job.state;
  const bar = card.querySelector("progress");
  bar.max = Math.max(items.total, 1);
  bar.value = over(items);
  card.querySelector("[data-count]").textContent = `${over(items)} of ${items.total}`;
  card.querySelector("[data-failed]").textContent = items.failed ? `${items.failed} failed` : "";
}

async function look() {
  if (document.hidden) return;
  const open = [...cards.values()].some(
    (card) => !OVER.has(card.querySelector(".badge").dataset.state),
  );
  if (!open) return;
  try {
    const { data } = await call("GET", "/v1/jobs?limit=30");
    for (const job of data) if (cards.has(job.id)) show(cards.get(job.id), job);
  } catch {
    // The next look may be luckier; what is shown stays.
  }
}

setInterval(look, EVERY_MS);
