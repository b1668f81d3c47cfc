/* What is shown of one photo, and of all of them. */
"use strict";

(() => {
  const { store, element } = review;
  const seconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} s`;
  const number = (value) => value.toLocaleString("en");
  const whole = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;

  /* Pairs of a name and a text, or an element, as a list of definitions. */
  function definitions(pairs) {
    const made = element("dl");
    for (const [name, value] of pairs) {
      if (value !== "" && value !== null && value !== undefined) made.append(element("dt", {}, name), element("dd", {}, value));
    }
    return made;
  }

  /* All that is shown of a photo, for each side. */
  review.facts = (detail) => {
    const parts = detail.sides.map((side) => {
      const made = element("section", {}, definitions(ofSide(side)));
      if (detail.sides.length > 1) made.prepend(element("h3", {}, store.page.sides[side.side].label));
      return made;
    });
    return [...parts, element("section", {}, definitions([...ofRow(detail)]))];
  };

  function* ofRow(detail) {
    const used = new Set(["id", "image", "mask", "boxes", "polygons", "rle"]);
    for (const [name, value] of Object.entries(JSON.parse(detail.line))) {
      if (!used.has(name) && value !== null) yield [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
    }
  }

  function* ofSide(side) {
    yield ["ended", side.error_code ? `${side.status}: ${side.error_code}${side.error_stage ? `, in ${side.error_stage}` : ""}` : side.status];
    yield ["error", side.error];
    yield ["what it means", store.page.meanings[side.error_code]];
    yield ["flag", side.flag?.replaceAll("_", " ")];
    yield ["score", side.score?.toFixed(3)];
    if (side.width) yield ["size", `${side.width} x ${side.height} px${painted(side)}`];
    if (side.effects_px !== undefined) yield ["beyond the mask", side.effects_px ? `${number(side.effects_px)} px changed, outlined in blue` : "nothing changed"];
    yield ["outside the mask", [side.fidelity, side.fidelity_note].filter(Boolean).join(": ")];
    yield ["metadata", side.metadata_note];
    yield ["prompt", side.refine_prompt];
    for (const [place, patch] of side.patches.entries()) {
      if (patch.reason || patch.tries) yield [`place ${place + 1}`, ofPatch(patch)];
    }
    const stages = Object.entries(side.seconds ?? {});
    const long = stages.filter(([, value]) => value >= 0.005);
    const total = stages.reduce((sum, [, value]) => sum + value, 0);
    if (stages.length) yield ["time", `${seconds(total)}: ${long.map(([name, value]) => `${name} ${seconds(value)}`).join(", ")}`];
    yield ["recipe", store.page.sides[side.side].label];
    yield ["run", side.run_id];
    yield ["photo", side.image_uri];
    yield ["result", side.output_uri];
  }

  function painted(side) {
    if (!side.masked_px) return ", nothing marked";
    const share = (100 * side.masked_px) / (side.width * side.height);
    const part = `, ${share < 0.1 ? "less than 0.1" : share.toFixed(1)} %`;
    return side.patches.length ? `${part} filled, in ${whole(side.patches.length, "place")}` : `${part} marked`;
  }

  function ofPatch(patch) {
    const done = patch.refined === undefined ? "" : patch.refined ? "refined" : "not refined";
    const tries = (patch.tries ?? []).map((each) => `seed ${each.seed}${each.score === null ? "" : ` scored ${each.score.toFixed(3)}`}`);
    return [done, patch.reason?.replaceAll("_", " "), ...tries].filter(Boolean).join(", ");
  }

  /* The summary of each side. */
  review.summaries = () => store.page.sides.map((side) => {
    const { summary } = side;
    const made = element("section", {}, element("h3", {}, side.label, " ", element("span", { class: "soft" }, side.output)));
    made.append(definitions([
      ["planned", whole(side.planned, "photo")],
      ...Object.entries(summary.statuses).map(([status, count]) => [status, number(count)]),
      ...summary.fidelity.map((line) => line.split(/: (.*)/, 2)),
      ["throughput", summary.rowsPerSecond ? `${summary.rowsPerSecond.toFixed(2)} photos/s` : ""],
      ["runs took", summary.seconds ? seconds(summary.seconds) : ""],
      ...Object.entries(summary.flags).map(([flag, count]) => [`flagged ${flag.replaceAll("_", " ")}`, number(count)]),
    ]));
    if (summary.codes.length) {
      made.append(table("Failures", ["code", "photos", "what it means"], summary.codes.map((each) => [each.code, number(each.count), each.meaning])));
    }
    if (summary.stages.length) {
      made.append(table("Stages", ["stage", "seconds a photo", "in all"], summary.stages.map((each) => [each.name, each.mean.toFixed(3), seconds(each.total)])));
    }
    return made;
  });

  function table(caption, heads, rows) {
    const cells = (tag, texts) => element("tr", {}, ...texts.map((text) => element(tag, tag === "th" ? { scope: "col" } : {}, text)));
    return element("table", {},
      element("caption", {}, caption),
      element("thead", {}, cells("th", heads)), element("tbody", {}, ...rows.map((row) => cells("td", row))));
  }
})();
