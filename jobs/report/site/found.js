/* What a detector found: drawn over the photo, switched on and off, and exported as a manifest. */
"use strict";

(() => {
  const { store, decisions, viewer, element } = review;
  const SVG = "http://www.w3.org/2000/svg";
  const section = document.getElementById("found");
  const button = document.getElementById("detections");
  const switched = new Map(); // key of a row -> set of names of detections
  const found = { changed: () => {} };
  review.found = found;

  const place = () => `catalog-cleanup corrections of ${store.page.output}`;
  const nameOf = ({ box, label }) => `${box.x},${box.y},${box.width},${box.height} ${label}`;
  const resultOf = (detail) => detail.results[0];

  found.start = () => {
    button.hidden = !store.page.detects;
    try {
      const kept = JSON.parse(localStorage.getItem(place()) ?? "{}");
      for (const [key, names] of Object.entries(kept)) switched.set(key, new Set(names));
    } catch {
      decisions.isKept = false; // a browser that keeps nothing, or what another page left
    }
  };

  function save() {
    try {
      const kept = [...switched].map(([key, names]) => [key, [...names]]);
      localStorage.setItem(place(), JSON.stringify(Object.fromEntries(kept)));
      decisions.isKept = true;
    } catch {
      decisions.isKept = false;
    }
  }

  const isSwitched = (row, each) => switched.get(store.key(row))?.has(nameOf(each)) ?? false;
  const isRemoved = (row, each) => each.removed !== isSwitched(row, each);

  /* Whether something of a row was switched. */
  found.isEdited = (row) => switched.has(store.key(row));

  /* How many listed rows were edited. */
  found.count = () => {
    let count = 0;
    for (let row = 0; switched.size && row < store.count; row++) count += found.isEdited(row);
    return count;
  };

  found.clear = () => {
    switched.clear();
    save();
  };

  /* Remove a detection, or keep it. Only where its pixels are known: of photos with pictures. */
  found.toggle = (number) => {
    const { row, detail } = viewer.view;
    const each = detail && resultOf(detail).detections?.[number];
    if (!each || !resultOf(detail).pictures?.found.length) return;
    const names = switched.get(store.key(row)) ?? new Set();
    if (!names.delete(nameOf(each))) names.add(nameOf(each));
    if (names.size) switched.set(store.key(row), names);
    else switched.delete(store.key(row));
    save();
    viewer.redraw();
    found.show();
    section.querySelectorAll("input")[number].focus();
    found.changed();
  };

  found.toggleOutlines = () => {
    const isShown = !document.body.classList.toggle("bare");
    button.setAttribute("aria-pressed", String(isShown));
  };
  button.addEventListener("click", found.toggleOutlines);

  /* List what was found in the photo that is looked at. */
  found.show = () => {
    const { row, detail } = viewer.view;
    section.hidden = !detail || !store.page.detects;
    if (section.hidden) return;
    const { detections, pictures, status } = resultOf(detail);
    const all = detections ?? [];
    const removed = all.filter((each) => isRemoved(row, each)).length;
    const head = element("h3", {}, heading(row, status, detections, removed));
    const entries = all.map((each, number) => {
      const box = element("input", { type: "checkbox", disabled: !pictures?.found.length });
      box.checked = isRemoved(row, each);
      box.addEventListener("change", () => found.toggle(number));
      const facts = [`${(100 * each.confidence).toFixed(0)} %`, each.reason, isSwitched(row, each) ? "changed here" : ""];
      return element("li", {}, element("label", {}, box, " ", element("span", { class: "label" }, each.label), " ",
        element("span", { class: "soft" }, facts.filter(Boolean).join(" · "))));
    });
    section.replaceChildren(head, ...(entries.length ? [element("ol", {}, ...entries)] : []));
  };

  function heading(row, status, detections, removed) {
    if (status !== "ok") return "Not searched: it failed";
    if (!detections) return "Not searched: its row has marks";
    if (!detections.length) return "Nothing found";
    if (decisions.of(row) === "x") return `Rejected: none of ${detections.length} found is removed`;
    return `${removed} of ${detections.length} found ${removed === 1 ? "is" : "are"} removed`;
  }

  /* The outlines of what was found, over a part of the photo; undefined: there are none. */
  viewer.overlay = (result, box) => {
    const { row, detail } = viewer.view;
    if (result !== resultOf(detail) || !result.detections?.length) return undefined;
    const svg = made("svg", { viewBox: box.join(" "), class: "detections", "aria-hidden": "true" });
    result.detections.forEach((each, number) => {
      const shape = result.pictures?.found[number];
      const group = made("g", { class: isRemoved(row, each) && decisions.of(row) !== "x" ? "removed" : "kept" });
      if (shape) group.append(made("path", { d: shape.path, class: "extent" }));
      for (const name of ["halo", "stroke"]) group.append(made("polygon", { points: each.outline.join(" "), class: name }));
      const title = made("title");
      title.textContent = `${each.label} · ${each.reason}`;
      group.append(title);
      group.addEventListener("click", () => found.toggle(number));
      svg.append(group);
    });
    return svg;
  };

  function made(tag, attributes = {}) {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  /* The manifest of all listed rows of recipes that detect, as JSON Lines, with the marks that are
  left. Of several recipes the last one counts. */
  found.manifest = async () => {
    const lines = new Map(); // id -> line
    for (let row = 0; row < store.count; row++) {
      const detail = await store.detail(row);
      if (detail.marked !== undefined) lines.set(store.columns.id[row], lineOf(row, detail));
    }
    return [...lines.values()];
  };

  function lineOf(row, detail) {
    const { marked, own, rle } = detail;
    const result = resultOf(detail);
    let [masks, runs] = [detail.masks, rle];
    if (decisions.of(row) === "x") masks = own;
    else if (found.isEdited(row) && result.pictures?.found.length) {
      masks = own;
      const size = [result.height, result.width];
      const added = result.detections.flatMap((each, number) =>
        isRemoved(row, each) ? [{ size, counts: result.pictures.found[number].counts }] : []);
      if (added.length) runs = [].concat(rle ?? [], added);
    }
    const shapes = runs === null || runs === undefined ? "" : `, "rle": ${JSON.stringify(runs)}`;
    return `${marked.slice(0, -1)}, "mask": ${JSON.stringify(masks)}${shapes}}\n`;
  }
})();
