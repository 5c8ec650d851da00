// Links of the committed boards, with their variables filled in; boards lead to /boards.

export function address(template, view, { labels = {}, row = {} } = {}) {
  const value = (text) => encodeURIComponent(text ?? "");
  const filled = template
    .replaceAll("${__url_time_range}", `from=${view.from}&to=${view.to}`)
    .replaceAll("${router_url}", location.origin)
    .replaceAll("${prometheus_url}", view.prometheus)
    .replaceAll(/\$\{__field\.labels\.(\w+)\}/g, (_, name) => value(labels[name]))
    .replaceAll(/\$\{__data\.fields\.(\w+)\}/g, (_, name) => value(row[name]))
    .replaceAll(/&?\$\{(\w+):queryparam\}/g, (_, name) =>
      (view.chosen[name] ?? []).map((each) => `&var-${name}=${value(each)}`).join(""))
    .replace(/^\/d\//, "/boards/");
  return /^(https?:\/\/|\/)/.test(filled) ? filled : undefined;
}

export function anchor(text, link, view, values) {
  const found = document.createElement("a");
  found.textContent = text;
  const href = address(link.url, view, values);
  if (href) found.href = href;
  found.title = link.title.replaceAll(/\$\{__(field\.labels|data\.fields)\.(\w+)\}/g, (_, where, name) =>
    (where === "data.fields" ? values.row : values.labels)?.[name] ?? "");
  if (link.targetBlank) found.target = "_blank";
  found.rel = "noopener";
  return found;
}
