/* The photo that is looked at: before and after, whole or place by place. */
"use strict";

(() => {
  const { store, element } = review;
  const SCALES = [1, 2, 4];
  const LAYERS = { after: "result", removal: "after removal", refined: "after refine" };
  const SVG = "http://www.w3.org/2000/svg";
  const panes = document.getElementById("panes");
  const places = document.getElementById("places");
  const scales = document.getElementById("scales");
  const layers = document.getElementById("layers");
  const outline = document.getElementById("outline");
  /* place: of detail's patches; -1: the whole photo. cut: percent that show the photo as it was. */
  const view = { row: -1, detail: null, place: -1, scale: 1, layer: "after", cut: 50 };
  const viewer = { view, shown: () => {}, overlay: () => undefined };
  review.viewer = viewer;

  /* Look at a row; undefined: there is none. */
  viewer.show = async (row) => {
    view.row = row ?? -1;
    if (row === undefined) {
      view.detail = null;
      panes.replaceChildren(element("p", { class: "nothing" }, "No photo meets these criteria."));
      document.getElementById("photo-id").textContent = "";
      for (const group of [places, scales, layers]) group.replaceChildren();
      viewer.shown();
      return;
    }
    const detail = await store.detail(row);
    if (view.row !== row) return; // somebody has gone on
    Object.assign(view, { detail, place: -1, layer: "after" });
    view.cut = start();
    document.getElementById("photo-id").textContent = store.columns.id[row];
    draw();
    viewer.shown();
  };

  /* Let the browser have the pictures of a row at hand. */
  viewer.prepare = (row) => {
    const folder = store.columns.picture[row];
    const names = store.page.cleans ? ["before", "after"] : ["before"];
    for (const name of folder ? names : []) new Image().src = address(folder, name);
  };

  const address = (folder, name) => `pictures/${folder}/${name}.webp?${store.page.stamp}`;
  const pictured = () => view.detail?.results.find((result) => result.pictures?.shown.length === 2);
  const patches = () => pictured()?.pictures.patches ?? [];

  /* The line starts in the middle of the first place, to show both halves of it. */
  function start() {
    const result = pictured();
    const region = result?.patches[Math.max(view.place, 0)]?.region;
    if (!region) return 50;
    const { width, height, patches: drawn } = result.pictures;
    const [x, , across] = view.place < 0 ? [0, 0, width, height] : drawn[view.place].box;
    return Math.round((100 * (region[0] + region[2] / 2 - x)) / across);
  }

  /* Draw the photo again, after a change to what is drawn over it. */
  viewer.redraw = () => {
    if (view.detail) draw();
  };

  function draw() {
    panes.replaceChildren(...view.detail.results.map(pane));
    drawTools();
    cut(view.cut);
    for (const each of panes.querySelectorAll(".place")) {
      each.scrollLeft = (each.scrollWidth * view.cut) / 100 - each.clientWidth / 2;
      each.addEventListener("scroll", () => scrollTogether(each), { passive: true });
    }
  }

  /* Places that stand side by side show the same part. */
  function scrollTogether(moved) {
    for (const each of panes.querySelectorAll(".place")) {
      if (each !== moved) each.scrollTo(moved.scrollLeft, moved.scrollTop);
    }
  }

  function pane(result) {
    const made = element("figure", { class: "pane" });
    if (store.page.compared) {
      const shown = store.page.recipes[result.recipe];
      made.append(element("figcaption", {}, shown.label, " ", element("span", { class: "soft" }, shown.output)));
    }
    const shown = result.pictures?.shown ?? [];
    if (shown.length === 2) made.append(pair(result, nameOf(result)));
    else if (shown.length) made.append(single(result, shown[0]));
    if (shown.length < 2 && !isWhole(result)) made.append(reason(result));
    else if (result.pictures.problem) made.append(element("p", { class: "soft" }, result.pictures.problem));
    return made;
  }

  const nameOf = (result) => {
    const id = store.columns.id[view.row];
    return store.page.compared ? `${id}, ${store.page.recipes[result.recipe].label}` : id;
  };

  /* Whether there is nothing to show after the photo: it was only searched. */
  const isWhole = (result) => result.status === "ok" && result.pictures?.shown.length === 1 && !result.output_uri && !result.pictures.problem;

  function reason(result) {
    const made = element("div", { class: "nothing" });
    if (result.error_code) made.append(element("p", { class: "bad" }, result.error_code), element("p", {}, result.error ?? ""));
    else if (!result.pictures) {
      const { rendered, count } = store.page;
      made.append(element("p", {}, `No pictures: ${rendered.toLocaleString("en")} of ${count.toLocaleString("en")} photos have some. --sample makes more.`));
    }
    if (result.pictures?.problem && result.pictures.problem !== result.error) made.append(element("p", {}, result.pictures.problem));
    return made;
  }

  function single(result, name) {
    const { width, height, folder } = result.pictures;
    const made = frame(width, height, false);
    made.firstChild.append(element("img", { src: address(folder, name), alt: `${store.columns.id[view.row]}, ${name}` }));
    if (!isWhole(result)) made.firstChild.append(tag("left", name));
    cover(made, result, [0, 0, width, height]);
    return made;
  }

  /* Draw what was found over a part of the photo. */
  function cover(made, result, box) {
    const drawn = viewer.overlay(result, box);
    if (drawn) made.firstChild.append(drawn);
  }

  function pair(result, name) {
    const { pictures } = result;
    const patch = pictures.patches[view.place];
    const [x, y, width, height] = patch?.box ?? [0, 0, pictures.width, pictures.height];
    const before = patch ? `${view.place}-before` : "before";
    const layer = patch?.steps.includes(view.layer) ? view.layer : "after";
    const after = patch ? `${view.place}-${layer}` : "after";
    const made = frame(width, height, Boolean(patch));
    const slider = element("input", {
      type: "range", min: 0, max: 100, step: 1, value: view.cut,
      "aria-label": `How much of ${name} is shown as it was, in percent`,
    });
    slider.addEventListener("input", () => cut(slider.value));
    made.firstChild.append(
      element("img", { class: "after", src: address(pictures.folder, after), alt: `${name}, ${LAYERS[layer]}` }),
      element("img", { class: "before", src: address(pictures.folder, before), alt: `${name}, as it was` }),
      drawnOutline(pictures, [x, y, width, height]),
      tag("left", "before"), tag("right", layer === "after" ? "after" : LAYERS[layer]),
      element("span", { class: "line", "aria-hidden": "true" }), slider,
    );
    cover(made, result, [x, y, width, height]);
    return made;
  }

  /* As wide as there is room for, or, for a place, as its pixels are. */
  function frame(width, height, isPlace) {
    const box = element("div", { class: "pair" });
    const made = element("div", { class: isPlace ? "frame place" : "frame" }, box);
    box.style.setProperty("--width", width);
    box.style.setProperty("--height", height);
    box.style.setProperty("--scale", view.scale);
    box.classList.toggle("enlarged", isPlace && view.scale > 1);
    return made;
  }

  const tag = (side, text) => element("span", { class: `tag ${side}`, "aria-hidden": "true" }, text);

  /* Around what was marked and filled, and around what was removed beyond it. */
  function drawnOutline(pictures, box) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", box.join(" "));
    svg.setAttribute("class", "outline");
    svg.setAttribute("aria-hidden", "true");
    const trace = (path, name) => {
      const line = document.createElementNS(SVG, "path");
      line.setAttribute("d", path);
      line.setAttribute("class", name);
      svg.append(line);
    };
    for (const name of ["halo", "stroke"]) trace(pictures.outline, name);
    for (const name of pictures.effects ? ["halo", "stroke effects"] : []) trace(pictures.effects, name);
    return svg;
  }

  /* Move the line, in all pairs: percent from the left. */
  function cut(percent) {
    view.cut = Math.min(Math.max(Number(percent), 0), 100);
    for (const each of panes.querySelectorAll(".pair")) {
      each.style.setProperty("--cut", `${view.cut}%`);
      const slider = each.querySelector("input");
      if (slider) slider.value = view.cut;
    }
  }
  viewer.moveLine = (by) => cut(view.cut + by);

  function drawTools() {
    const count = patches().length;
    const names = ["Whole photo", ...patches().map((_, number) => (count === 1 ? "Full resolution" : `Place ${number + 1}`))];
    places.replaceChildren(...(count ? names.map((name, number) => choice(name, view.place === number - 1, () => go(number - 1))) : []));
    scales.hidden = view.place < 0;
    scales.replaceChildren(...SCALES.map((scale) => choice(`${100 * scale} %`, view.scale === scale, () => enlarge(scale))));
    const steps = patches()[view.place]?.steps ?? [];
    layers.hidden = !steps.length;
    layers.replaceChildren(...["after", ...steps].map((name) => choice(LAYERS[name], view.layer === name, () => look(name))));
    outline.hidden = !pictured()?.pictures.outline;
  }

  function choice(text, isChosen, choose) {
    const made = element("button", { type: "button", "aria-pressed": String(isChosen) }, text);
    made.addEventListener("click", () => {
      const [group, number] = [made.parentElement, [...made.parentElement.children].indexOf(made)];
      choose();
      group.children[number]?.focus(); // it was made again
    });
    return made;
  }

  function go(place) {
    view.place = place;
    if (!patches()[place]?.steps.includes(view.layer)) view.layer = "after";
    view.cut = start();
    draw();
  }

  function enlarge(scale) {
    view.scale = scale;
    draw();
  }

  function look(layer) {
    view.layer = layer;
    draw();
  }

  viewer.nextPlace = () => {
    if (patches().length) go(view.place + 1 < patches().length ? view.place + 1 : -1);
  };

  viewer.enlarge = (by) => {
    const scale = SCALES[SCALES.indexOf(view.scale) + by];
    if (view.place >= 0 && scale) enlarge(scale);
  };

  viewer.nextLayer = () => {
    const names = ["after", ...(patches()[view.place]?.steps ?? [])];
    look(names[(names.indexOf(view.layer) + 1) % names.length]);
  };

  viewer.toggleOutline = () => {
    const isShown = panes.classList.toggle("outlined");
    outline.setAttribute("aria-pressed", String(isShown));
  };
  outline.addEventListener("click", viewer.toggleOutline);
})();
