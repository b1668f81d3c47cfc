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

  /* All that is shown of a photo, for each recipe. */
  review.facts = (detail) => {
    const parts = detail.results.map((result) => {
      const made = element("section", {}, definitions(ofResult(result)));
      if (detail.results.length > 1) made.prepend(element("h3", {}, store.page.recipes[result.recipe].label));
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

  function* ofResult(result) {
    yield ["ended", result.error_code ? `${result.status}: ${result.error_code}${result.error_stage ? `, in ${result.error_stage}` : ""}` : result.status];
    yield ["error", result.error];
    yield ["what it means", store.page.meanings[result.error_code]];
    yield ["flag", result.flag?.replaceAll("_", " ")];
    yield ["score", result.score?.toFixed(3)];
    if (result.width) yield ["size", `${result.width} x ${result.height} px${painted(result)}`];
    if (result.effects_px !== undefined) yield ["beyond the mask", result.effects_px ? `${number(result.effects_px)} px changed, outlined in blue` : "nothing changed"];
    yield ["outside the mask", [result.fidelity, result.fidelity_note].filter(Boolean).join(": ")];
    yield ["metadata", result.metadata_note];
    yield ["prompt", result.refine_prompt];
    for (const [place, patch] of result.patches.entries()) {
      if (patch.reason || patch.tries) yield [`place ${place + 1}`, ofPatch(patch)];
    }
    const stages = Object.entries(result.seconds ?? {});
    const long = stages.filter(([, value]) => value >= 0.005);
    const total = stages.reduce((sum, [, value]) => sum + value, 0);
    if (stages.length) yield ["time", `${seconds(total)}: ${long.map(([name, value]) => `${name} ${seconds(value)}`).join(", ")}`];
    yield ["recipe", store.page.recipes[result.recipe].label];
    yield ["run", result.run_id];
    yield ["photo", result.image_uri];
    yield ["result", result.output_uri];
  }

  function painted(result) {
    if (!result.masked_px) return ", nothing marked";
    const share = (100 * result.masked_px) / (result.width * result.height);
    const part = `, ${share < 0.1 ? "less than 0.1" : share.toFixed(1)} %`;
    return result.patches.length ? `${part} filled, in ${whole(result.patches.length, "place")}` : `${part} marked`;
  }

  function ofPatch(patch) {
    const done = patch.refined === undefined ? "" : patch.refined ? "refined" : "not refined";
    const tries = (patch.tries ?? []).map((each) => `seed ${each.seed}${each.score === null ? "" : ` scored ${each.score.toFixed(3)}`}`);
    return [done, patch.reason?.replaceAll("_", " "), ...tries].filter(Boolean).join(", ");
  }

  /* The summary of each recipe. */
  review.summaries = () => store.page.recipes.map((recipe) => {
    const { summary } = recipe;
    const made = element("section", {}, element("h3", {}, recipe.label, " ", element("span", { class: "soft" }, recipe.output)));
    made.append(definitions([
      ["planned", whole(recipe.planned, "photo")],
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
