// A new job: look into the file, write the prompt, see what it asks, start.

import { $, Refused, call, csrf, element, refusal } from "./shared.js";

const READING = ["encoding", "delimiter", "header"];
const QUIET_MS = 300; // after the last key, before the preview is asked for
let file = null; // { id, name, columns, rows }
let prompts = [];
let shownRow = 0;
let asking = null; // the preview that is under way
let uploading = null;
let started = false;

// The file

function upload(chosen) {
  return new Promise((done, failed) => {
    const form = new FormData();
    form.append("purpose", "dataset");
    form.append("file", chosen, chosen.name);
    const sending = new XMLHttpRequest();
    uploading = sending;
    sending.open("POST", "/v1/files");
    for (const [name, value] of Object.entries(csrf())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = (event) => {
      if (event.lengthComputable) $("upload").value = event.loaded / event.total;
    };
    sending.onload = () => {
      if (sending.status < 300) done(JSON.parse(sending.responseText));
      else failed(refusal(sending.status, sending.responseText));
    };
    sending.onerror = () => failed(new Refused("the upload broke off", null));
    sending.onabort = () => failed(new Refused("", null));
    sending.send(form);
  });
}

function forget() {
  if (file) fetch(`/v1/files/${file.id}`, { method: "DELETE", keepalive: true, headers: csrf() }).catch(() => {});
  file = null;
}

async function take(chosen) {
  if (uploading) uploading.abort();
  forget();
  clearFile();
  $("file-status").textContent = `Looking into ${chosen.name} …`;
  $("upload").hidden = false;
  try {
    const { id } = await upload(chosen);
    file = { id, name: chosen.name };
    await look();
  } catch (error) {
    forget();
    $("file-status").textContent = "";
    setError("file", error.message);
  } finally {
    uploading = null;
    $("upload").hidden = true;
  }
  preview();
}

async function look() {
  showFile(await call("POST", "/v1/jobs/preview", { file_id: file.id, ...reading() }));
}

// What is said of how the file is written; the rest is found out.
function reading() {
  const said = {};
  if ($("encoding").value.trim()) said.encoding = $("encoding").value.trim();
  if ($("delimiter").value) said.delimiter = $("delimiter").value;
  if ($("header").value) said.header = $("header").value === "true";
  return said;
}

async function lookAgain() {
  if (!file) return;
  setError("file", "");
  try {
    await look();
  } catch (error) {
    setError("file", error.message);
  }
  preview();
}

function clearFile() {
  setError("file", "");
  $("sample").hidden = true;
  $("columns").hidden = true;
  $("preview").hidden = true;
  $("upload").value = 0;
}

function showFile(found) {
  const titles = JSON.parse($("form").dataset.formats);
  file.columns = found.columns;
  const { encoding, delimiter, header } = found.reading;
  const count = found.columns.length;
  const words = [titles[found.format], encoding && encoding.toUpperCase(), delimiter && `delimiter: ${delimiter}`];
  if (header === false) words.push("no line of names");
  words.push(`${count} column${count === 1 ? "" : "s"}`);
  $("file-status").textContent = `${file.name}: ${words.filter(Boolean).join(", ")}`;
  $("notes").replaceChildren(...found.notes.map((note) => element("li", note)));
  const head = element("tr");
  for (const name of found.columns) head.append(element("th", name, { scope: "col" }));
  $("rows").tHead.replaceChildren(head);
  $("rows").tBodies[0].replaceChildren(...found.rows.map((row) => tableRow(row, found.columns)));
  $("faults").replaceChildren(...found.faults.map((fault) => element("li", faultText(fault))));
  $("sample").hidden = false;
  $("columns").replaceChildren(...found.columns.map(chip));
  $("columns").hidden = !count;
}

function tableRow(row, columns) {
  const line = element("tr");
  for (const name of columns) line.append(element("td", shown(row[name]).slice(0, 200)));
  return line;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function faultText(fault) {
  const place = fault.column ? `line ${fault.line}, column ${fault.column}` : `line ${fault.line}`;
  return `${place}: ${fault.message}`;
}

// The prompt

function reference(name) {
  const plain = /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !["row", "self"].includes(name);
  return plain ? `{{ ${name} }}` : `{{ row[${JSON.stringify(name)}] }}`;
}

function chip(name) {
  const made = element("button", name, { type: "button" });
  made.setAttribute("aria-label", `Insert ${name}`);
  made.addEventListener("click", () => {
    const area = $("template");
    area.setRangeText(reference(name), area.selectionStart, area.selectionEnd, "end");
    area.focus();
    preview();
  });
  return made;
}

async function preview() {
  if (asking) asking.abort();
  const template = $("template").value;
  setError("template", "");
  if (!file || !template.trim()) {
    $("preview").hidden = true;
    return;
  }
  const mine = new AbortController();
  asking = mine;
  try {
    const body = { file_id: file.id, template, ...reading() };
    const found = await call("POST", "/v1/jobs/preview", body, { signal: mine.signal });
    prompts = found.prompts;
    shownRow = Math.min(shownRow, Math.max(prompts.length - 1, 0));
    showPrompt();
  } catch (error) {
    if (error.name === "AbortError") return;
    $("preview").hidden = true;
    setError("template", error.message);
  }
}

function showPrompt() {
  $("preview").hidden = !prompts.length;
  $("prompt").textContent = prompts[shownRow] ?? "";
  $("preview-row").textContent = shownRow + 1;
  $("previous").disabled = shownRow === 0;
  $("next").disabled = shownRow >= prompts.length - 1;
}

function setError(field, message) {
  $(`${field}-error`).textContent = message.replace(/^(template|file|format): /, "");
  $(field).setAttribute("aria-invalid", message ? "true" : "false");
}

// Starting

function reducer() {
  const kind = document.querySelector("input[name=reducer]:checked").value;
  const made = { kind };
  const set = (name, id, read) => {
    const holder = $(id).closest("[data-for]");
    if (holder.dataset.for.split(" ").includes(kind) && $(id).value.trim()) {
      made[name] = read($(id).value.trim());
    }
  };
  set("threshold", "threshold", Number);
  set("prompt", "merge", String);
  set("samples", "samples", Number);
  set("field", "field", String);
  return made;
}

function terms() {
  const made = {
    file_id: file.id,
    ...reading(),
    model: $("model").value,
    template: $("template").value,
    reducer: reducer(),
    options: {},
    bad_lines: $("strict").checked ? "fail_job" : "fail_line",
  };
  for (const name of ["name", "system"]) if ($(name).value.trim()) made[name] = $(name).value.trim();
  for (const name of ["temperature", "num_predict"]) {
    if ($(name).value) made.options[name] = Number($(name).value);
  }
  if ($("nodes").value) made.nodes = Number($("nodes").value);
  if ($("from").value && $("to").value) {
    made.window = `${$("from").value}-${$("to").value}`;
    made.zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  }
  return made;
}

async function start(event) {
  event.preventDefault();
  $("form-error").textContent = "";
  if (!file) return tellMissing("file", "Choose a file first.");
  if (!$("template").value.trim()) return tellMissing("template", "Write what to ask.");
  if (Boolean($("from").value) !== Boolean($("to").value)) {
    $("form-error").textContent = "A window needs both times.";
    return;
  }
  $("start").disabled = true;
  try {
    const job = await call("POST", "/v1/jobs", terms());
    started = true;
    location.assign(`/jobs/${job.id}`);
  } catch (error) {
    $("start").disabled = false;
    if (["template", "file"].includes(error.param)) tellMissing(error.param, error.message);
    else $("form-error").textContent = error.message;
  }
}

function tellMissing(field, message) {
  setError(field, message);
  $(field).focus();
}

function showFields() {
  const kind = document.querySelector("input[name=reducer]:checked").value;
  for (const each of document.querySelectorAll("[data-for]")) {
    each.hidden = !each.dataset.for.split(" ").includes(kind);
  }
}

// Wiring

let later = 0;
$("file").addEventListener("change", () => $("file").files[0] && take($("file").files[0]));
$("template").addEventListener("input", () => {
  clearTimeout(later);
  later = setTimeout(preview, QUIET_MS);
});
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  $(id).addEventListener("click", () => {
    shownRow += step;
    showPrompt();
  });
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
for (const radio of document.querySelectorAll("input[name=reducer]")) {
  radio.addEventListener("change", showFields);
}
for (const field of READING) $(field).addEventListener("change", lookAgain);
$("form").addEventListener("submit", start);
// A file without a job is of no use to anybody.
window.addEventListener("pagehide", () => started || forget());
showFields();
