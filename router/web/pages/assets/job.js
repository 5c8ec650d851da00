// One job, live: figures, the reducer's result so far, what can be done to it.

import { $, OVER, call, element, number, over, span, words } from "./shared.js";

const SHOWN_ANSWERS = 5;
const SHOWN_FAILURES = 20;
const ANSWERS_EVERY_MS = 2000;
const TEXT_CHARACTERS = 20000;
let job = JSON.parse($("job-state").textContent);
const base = `/v1/jobs/${job.id}`;

function show() {
  const { progress } = job;
  const { items, merges } = progress;
  const isOver = OVER.has(job.state);
  const paused = job.paused && job.state === "in_progress";
  setText("state", words(job));
  $("state").dataset.state = paused ? "paused" : job.state;
  $("bar").max = Math.max(items.total, 1);
  $("bar").value = over(items);
  setText("over", over(items).toLocaleString("en"));
  setText("total", items.total.toLocaleString("en"));
  setText("share", items.total ? `(${Math.floor((100 * over(items)) / items.total)} %)` : "");
  setText("why", paused && !job.parked ? "" : job.why_idle || "");
  setText("failed", items.failed.toLocaleString("en"));
  setText("eta", isOver ? "–" : span(progress.eta_seconds));
  setText("rate", number(isOver && progress.seconds ? over(items) / progress.seconds : progress.rate));
  setText("tokens", number(isOver && progress.seconds ? progress.generated_tokens / progress.seconds : progress.tokens_per_second));
  setText("merges", merges.total ? `${merges.done} of ${merges.total}` : "–");
  setText("retries", progress.retries.toLocaleString("en"));
  setText("seconds", span(progress.seconds));
  $("nodes").replaceChildren(
    ...Object.entries(progress.nodes).sort().map(([node, count]) => element("li", `${node} · ${count}`)),
  );
  $("pause").hidden = isOver || job.paused || job.state === "cancelling";
  $("resume").hidden = isOver || !job.paused;
  $("cancel").hidden = isOver || job.state === "cancelling";
  $("retry").hidden = !isOver || !items.failed;
  $("delete").hidden = !isOver;
  $("output").hidden = !isOver;
  setText("result-title", isOver ? "Result" : "Result so far");
}

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// What the reducer has

function showPartial(partial) {
  if (partial.value === null || partial.value === undefined || partial.value === "") return;
  $("result").hidden = false;
  setText("covers", `from ${partial.covers.toLocaleString("en")} of ${partial.total.toLocaleString("en")}`);
  $("value").replaceChildren(rendered(partial.value, partial.from || 0));
}

function rendered(value, from) {
  if (typeof value === "string") {
    const cut = value.length > TEXT_CHARACTERS || from > 0;
    const text = value.slice(-TEXT_CHARACTERS);
    return element("pre", (cut ? "… " : "") + text, { class: "text", tabindex: "0" });
  }
  const box = element("div");
  const figures = element("dl", "", { class: "figures" });
  for (const [name, each] of Object.entries(value)) {
    if (each !== null && typeof each === "object") continue;
    const pair = element("div");
    pair.append(element("dt", name.replaceAll("_", " ")));
    pair.append(element("dd", typeof each === "number" ? number(each, 3) : String(each ?? "–")));
    figures.append(pair);
  }
  box.append(figures);
  if (value.values) box.append(table(Object.entries(value.values), ["answer", "times"]));
  if (Array.isArray(value.rows)) {
    const rows = value.rows.slice(0, 50);
    box.append(table(rows.map((row) => [row.answer ?? "–", `${row.votes} of ${row.samples}`]), ["answer", "votes"]));
  }
  return box;
}

function table(rows, names) {
  const holder = element("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": names.join(" and ") });
  const made = element("table");
  const head = element("tr");
  head.append(element("th", names[0], { scope: "col" }), element("th", names[1], { scope: "col", class: "number" }));
  made.createTHead().append(head);
  const body = made.createTBody();
  for (const [first, second] of rows) {
    const line = element("tr");
    line.append(element("td", String(first)), element("td", typeof second === "number" ? second.toLocaleString("en") : second, { class: "number" }));
    body.append(line);
  }
  holder.append(made);
  return holder;
}

// Answers and failures

async function lines(path) {
  const answer = await fetch(path);
  if (!answer.ok) return [];
  const text = await answer.text();
  return text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
}

// A vote has several items for each row.
function row(each) {
  const { kind, samples } = job.reducer;
  return Math.floor(each.index / (kind === "vote" ? (samples ?? 5) : 1)) + 1;
}

let looking = false;
async function look() {
  if (looking || document.hidden) return;
  looking = true;
  try {
    if (job.progress.items.done) {
      const found = (await lines(`${base}/results?limit=${SHOWN_ANSWERS * 4}`)).filter((each) => each.status === "done");
      $("answers").replaceChildren(...found.slice(0, SHOWN_ANSWERS).map(shownAnswer));
      $("no-answers").hidden = found.length > 0;
    }
    if (job.progress.items.failed) {
      // Samples that were spared have no answer either, but did not fail.
      const found = (await lines(`${base}/results?failed=true&limit=1000`))
        .filter((each) => each.status === "failed")
        .slice(0, SHOWN_FAILURES);
      $("failures").replaceChildren(...found.map((each) => element("li", `row ${row(each)}: ${each.error?.message ?? each.status}`)));
      $("trouble").hidden = !found.length;
    }
  } catch {
    // The next look may be luckier.
  } finally {
    looking = false;
  }
}

function shownAnswer(each) {
  const item = element("li");
  item.append(element("span", `row ${row(each)}${each.node ? ` · ${each.node}` : ""}`, { class: "quiet" }));
  item.append(element("p", each.text.trim().slice(0, 1000)));
  return item;
}

function showFaults() {
  if (!job.faults.length || job.progress.items.failed) return;
  const place = (fault) => [fault.line && `line ${fault.line}`, fault.column && `column ${fault.column}`].filter(Boolean).join(", ");
  const text = (fault) => (place(fault) && !fault.message.startsWith("line ") ? `${place(fault)}: ` : "") + fault.message;
  $("failures").replaceChildren(...job.faults.map((fault) => element("li", text(fault))));
  $("trouble").hidden = false;
}

// Live

let source = null;
let looker = 0;

function listen() {
  source = new EventSource(`${base}/events`);
  source.addEventListener("open", () => setText("connection", ""));
  source.addEventListener("progress", (event) => {
    Object.assign(job, JSON.parse(event.data));
    show();
  });
  source.addEventListener("partial", (event) => showPartial(JSON.parse(event.data)));
  source.addEventListener("end", (event) => {
    source.close(); // or the browser would come again
    clearInterval(looker);
    job = JSON.parse(event.data);
    finish();
  });
  source.addEventListener("error", () => setText("connection", "The connection was lost; trying again …"));
  looker = setInterval(look, ANSWERS_EVERY_MS);
}

async function finish() {
  show();
  showFaults();
  look();
  try {
    showPartial(await call("GET", `${base}/partial`));
  } catch {
    // Then there is no result to show.
  }
}

// Doing

function sure(text, yes) {
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  $("sure").returnValue = "no";
  $("sure").showModal();
  return new Promise((done) => {
    $("sure").addEventListener("close", () => done($("sure").returnValue === "yes"), { once: true });
  });
}

async function act(method, path) {
  setText("action-error", "");
  try {
    return await call(method, path, method === "POST" ? {} : undefined);
  } catch (error) {
    setText("action-error", error.message);
    return null;
  }
}

for (const verb of ["pause", "resume"]) {
  $(verb).addEventListener("click", async () => {
    const changed = await act("POST", `${base}/${verb}`);
    if (!changed) return;
    job = changed;
    show();
    $(verb === "pause" ? "resume" : "pause").focus();
  });
}
$("cancel").addEventListener("click", async () => {
  if (!(await sure("Rows that are done stay readable; the others will not run.", "End the job"))) return;
  const changed = await act("POST", `${base}/cancel`);
  if (changed) job = changed;
  show();
});
$("retry").addEventListener("click", async () => {
  const changed = await act("POST", `${base}/retry`);
  if (!changed) return;
  job = changed;
  $("trouble").hidden = true;
  show();
  listen();
});
$("delete").addEventListener("click", async () => {
  if (!(await sure("The job and all of its answers are deleted.", "Delete the job"))) return;
  if (await act("DELETE", base)) location.assign("/jobs");
});

show();
look();
if (OVER.has(job.state)) finish();
else listen();
