/* The page as a whole: filters, keys, buttons. */
"use strict";

(() => {
  const { store, decisions, list, viewer, found, element } = review;
  const byId = (id) => document.getElementById(id);
  const form = byId("filters");
  const photos = (count) => `${count.toLocaleString("en")} ${count === 1 ? "photo" : "photos"}`;

  /* Called by store.js when all rows are here. */
  review.start = () => {
    const { page } = store;
    document.title = `${page.title}: before and after`;
    byId("title").textContent = page.title;
    byId("subtitle").textContent = subtitle(page);
    byId("summaries").replaceChildren(...review.summaries());
    document.body.classList.toggle("compared", page.compared);
    decisions.load();
    found.start();
    addCriteria(page);
    addSorting(page);
    addVerdicts();
    found.changed = () => { tellMarks(); list.draw(); };
    for (const name of ["export-redo", "export-all"]) byId(name).hidden = !page.cleans;
    byId("export-found").hidden = !page.detects;
    list.choose = viewer.show;
    viewer.shown = shown;
    apply();
    tellMarks();
    document.body.classList.add("ready");
  };

  function subtitle(page) {
    const { summary } = page.recipes[0];
    const ended = Object.entries(summary.statuses).map(([status, count]) => `${count.toLocaleString("en")} ${status}`);
    const parts = [photos(summary.rows), ended.join(", "), ...summary.fidelity];
    if (page.compared) parts.unshift(page.recipes.map((recipe) => recipe.label).join(" beside "));
    else if (page.recipes.length > 1) parts.splice(0, parts.length, `${page.recipes.length} recipes`);
    else parts.unshift(page.recipes[0].name);
    const all = page.compared ? summary.rows : page.recipes.reduce((sum, recipe) => sum + recipe.summary.rows, 0);
    if (page.count < all) parts.push(`${page.count.toLocaleString("en")} listed`);
    if (page.only.length) parts.push(`listed: ${page.only.join(", ")}`);
    return [...parts, page.madeAt].join(" · ");
  }

  function addCriteria(page) {
    const fields = [];
    const choose = (name, text, values) => fields.push(label(text, select(name, [["", "any"], ...values])));
    const named = (values) => values.map((value) => [value, value.replaceAll("_", " ")]);
    if (page.status.length > 1) choose("status", "Ended", named(page.status));
    if (page.error_code.length) choose("error_code", "Error", page.error_code.map((code) => [code, code]));
    if (page.flag.length) choose("flag", "Flag", named(page.flag));
    if (page.detects) choose("found", "Found", [["removed", "removed"], ["kept", "kept only"], ["nothing", "nothing"]]);
    if (page.recipes.length > 1 && !page.compared) choose("recipe", "Recipe", page.recipes.map((recipe, number) => [number, recipe.label]));
    choose("decision", "Decision", [...Object.entries(decisions.KINDS), ["none", "not yet"]]);
    for (const name of ["score", "seconds"]) {
      if (store.columns[name].some((value) => value !== null)) fields.push(range(name));
    }
    page.columns.forEach((column, number) => {
      const name = `column${number}`;
      if (column.values) choose(name, column.name, column.values.map((value) => [value, value]));
      else fields.push(label(column.name, element("input", { type: "search", name, autocomplete: "off" })));
    });
    if (page.rendered < page.count) fields.push(label("With pictures", element("input", { type: "checkbox", name: "pictured" })));
    byId("criteria").replaceChildren(...fields);
  }

  const label = (text, field) => element("label", { class: "row" }, element("span", {}, text), field);

  function select(name, choices) {
    return element("select", { name }, ...choices.map(([value, text]) => element("option", { value }, text)));
  }

  function range(name) {
    const ends = [["From", "from"], ["To", "to"]].map(([end, text]) =>
      element("input", { type: "number", name: name + end, step: "any", min: 0, placeholder: text, "aria-label": `${name}, ${text}` }));
    return element("div", { class: "row" }, element("span", {}, name[0].toUpperCase() + name.slice(1)), element("span", { class: "ends" }, ...ends));
  }

  function addSorting(page) {
    const choices = [["id", "by id"], ["-id", "by id, last first"]];
    if (page.rendered < page.count) choices.unshift(["pictured", "with pictures first"]);
    if (store.columns.score.some((value) => value !== null)) choices.push(["-score", "highest score first"], ["score", "lowest score first"]);
    choices.push(["-share", "largest share of the photo first"], ["-seconds", "slowest first"], ["seconds", "fastest first"]);
    if (page.compared) choices.push(["-difference", "scores farthest apart first"]);
    form.elements.sort.replaceChildren(...select("", choices).children);
    form.elements.sort.value = choices[0][0];
  }

  function addVerdicts() {
    const buttons = Object.entries(decisions.KINDS).map(([key, name]) => {
      const made = element("button", { type: "button", class: `verdict-${key}`, "aria-pressed": "false", "aria-keyshortcuts": key },
        name[0].toUpperCase() + name.slice(1), " ", element("kbd", { "aria-hidden": "true" }, key));
      made.addEventListener("click", () => decide(key));
      return made;
    });
    byId("verdict").replaceChildren(...buttons);
  }

  /* Show the rows that meet the criteria. */
  function apply() {
    const { sort, ...criteria } = Object.fromEntries(new FormData(form));
    const rows = store.sorted(store.filtered(criteria, decisions.of), sort);
    const used = Object.entries(criteria).filter(([name, value]) => value && name !== "text").length;
    byId("filtering").textContent = used ? `${used} in use` : "";
    byId("count").textContent = rows.length === store.count ? photos(rows.length) : `${rows.length.toLocaleString("en")} of ${photos(store.count)}`;
    list.show(rows);
  }

  let typing;
  for (const kind of ["input", "change"]) { // a choice is not everywhere an input
    form.addEventListener(kind, () => {
      clearTimeout(typing);
      typing = setTimeout(apply, 100);
    });
  }
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());

  /* The viewer shows another photo. */
  function shown() {
    const { row, detail } = viewer.view;
    found.show();
    byId("facts").replaceChildren(...(detail ? review.facts(detail) : []));
    byId("photo-note").textContent = detail ? store.own(row).map(([, text]) => text).join(" · ") : "";
    byId("place").textContent = detail ? `${(list.at + 1).toLocaleString("en")} of ${list.rows.length.toLocaleString("en")}` : "";
    byId("previous").disabled = list.at <= 0;
    byId("next").disabled = list.at >= list.rows.length - 1;
    tellVerdict();
    const next = list.rows[list.at + 1];
    if (next !== undefined) viewer.prepare(next);
  }

  function tellVerdict() {
    const now = viewer.view.row >= 0 ? decisions.of(viewer.view.row) : undefined;
    for (const [number, key] of Object.keys(decisions.KINDS).entries()) {
      byId("verdict").children[number].setAttribute("aria-pressed", String(now === key));
      byId("verdict").children[number].disabled = viewer.view.row < 0;
    }
  }

  function tellMarks() {
    const counts = decisions.counts();
    const parts = [`${counts.a} accepted`, ...("r" in decisions.KINDS ? [`${counts.r} to redo`] : []), `${counts.x} rejected`];
    if (store.page.detects) parts.push(`${found.count()} edited`);
    byId("decisions").textContent = parts.join(", ");
    byId("export-redo").disabled = !counts.r;
    byId("export-all").disabled = !(counts.a + counts.r + counts.x);
    byId("clear-decisions").disabled = byId("export-all").disabled && !found.count();
    if (!decisions.isKept) notify("This browser does not keep decisions: export them before you leave.");
  }

  const notify = (text) => { byId("notice").textContent = text; };

  function decide(key) {
    if (viewer.view.row < 0 || !(key in decisions.KINDS)) return;
    const isNew = decisions.set(viewer.view.row, key);
    tellMarks();
    if (isNew && list.at < list.rows.length - 1) list.move(1);
    else {
      list.draw();
      tellVerdict();
      viewer.redraw();
      found.show();
    }
  }

  async function exported(wanted, name) {
    const count = await decisions.download(wanted, name);
    notify(`${photos(count)} in ${name}. catalog-cleanup run ${name} --output NEW --set seed=1 does them again.`);
  }

  async function exportFound() {
    const lines = await found.manifest();
    decisions.save(lines, "corrected.jsonl");
    const { count, recipes } = store.page;
    const planned = Math.max(...recipes.map((recipe) => recipe.planned));
    const missing = count < planned ? ` ${photos(planned)} were planned: detected.jsonl has the others.` : "";
    notify(`${photos(lines.length)} in corrected.jsonl. catalog-cleanup run corrected.jsonl --output NEW cleans them.${missing}`);
  }

  byId("export-found").addEventListener("click", exportFound);
  byId("export-redo").addEventListener("click", () => exported("r", "redo.jsonl"));
  byId("export-all").addEventListener("click", () => exported("arx", "decisions.jsonl"));
  byId("clear-decisions").addEventListener("click", () => {
    if (!confirm("Forget all decisions of this page?")) return;
    decisions.clear();
    found.clear();
    viewer.redraw();
    found.show();
    tellMarks();
    tellVerdict();
    list.draw();
  });
  byId("previous").addEventListener("click", () => list.move(-1));
  byId("next").addEventListener("click", () => list.move(1));
  for (const name of ["summary", "keys"]) byId(`open-${name}`).addEventListener("click", () => byId(name).showModal());

  const KEYS = {
    ArrowUp: () => list.move(-1), ArrowDown: () => list.move(1),
    PageUp: () => list.move(-10), PageDown: () => list.move(10),
    ArrowLeft: () => viewer.moveLine(-2), ArrowRight: () => viewer.moveLine(2),
    a: () => decide("a"), r: () => decide("r"), x: () => decide("x"),
    z: viewer.nextPlace, m: viewer.toggleOutline, d: found.toggleOutlines, s: viewer.nextLayer,
    "+": () => viewer.enlarge(1), "-": () => viewer.enlarge(-1),
    "/": () => form.elements.text.focus(), "?": () => byId("keys").showModal(),
  };

  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const isSlider = target.matches("input[type=range]");
    if (!isSlider && target.matches("input:not([type=checkbox]), select, textarea")) {
      if (key === "Escape" || (key === "Enter" && target.name === "text")) byId("list").focus();
      return;
    }
    if (isSlider && (key === "ArrowLeft" || key === "ArrowRight")) return; // it moves by itself
    const act = /^[1-9]$/.test(key) ? () => found.toggle(Number(key) - 1) : KEYS[key];
    if (!act || !viewer.view.detail) return;
    event.preventDefault();
    act();
  });
})();
