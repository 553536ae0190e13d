"use strict";
// What each chart shows, as Vega-Lite; how it looks follows the page's colors.
const Charts = (() => {
  const DASHES = [[1, 0], [7, 3], [2, 3], [9, 3, 2, 3], [4, 2, 1, 2, 1, 2]];
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

  // Color tells the method and dashes the width, in every chart and beside every box to tick.
  function looks(cells) {
    const methods = [...new Set(cells.filter((cell) => !cell.unquantized).map((cell) => cell.method))];
    const widths = [...new Set(cells.filter((cell) => !cell.unquantized).map((cell) => cell.bits))];
    return new Map(cells.map((cell) => [cell.name, cell.unquantized
      ? { color: "s0", dash: DASHES[0], shape: SHAPES[0] }
      : {
        color: `s${1 + methods.indexOf(cell.method) % 7}`,
        dash: DASHES[widths.indexOf(cell.bits) % DASHES.length],
        shape: SHAPES[(1 + methods.indexOf(cell.method)) % SHAPES.length],
      }]));
  }

  function theme() {
    const ink = color("ink"), line = color("line"), soft = color("soft");
    const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: soft, tickColor: soft, labelFontSize: 12, titleFontSize: 13 };
    return { background: "transparent", font: "system-ui, sans-serif", axis, view: { stroke: null }, text: { color: ink } };
  }

  function series(names, styles, field) {
    const scale = (key, map) => ({ domain: names, range: names.map((name) => map(styles.get(name)[key])) });
    return {
      color: { field, type: "nominal", scale: scale("color", color), legend: null },
      strokeDash: { field, type: "nominal", scale: scale("dash", (dash) => dash), legend: null },
      shape: { field, type: "nominal", scale: scale("shape", (shape) => shape), legend: null },
    };
  }

  const near = (values, floor = null, ceiling = null) => {
    const low = Math.min(...values), high = Math.max(...values), margin = 0.08 * (high - low || Math.abs(high) || 1);
    return [floor === null ? low - margin : Math.max(floor, low - margin), ceiling === null ? high + margin : Math.min(ceiling, high + margin)];
  };

  // Names that would lie on another one are left out; pointing at their marks tells them.
  function apart(points, [left, right], [bottom, top], width) {
    const scaled = (value, low, high) => (value - low) / (high - low || 1);
    const kept = [];
    for (const point of [...points].sort((one, other) => rank(one) - rank(other))) {
      const x = width * scaled(Math.log(point.x), Math.log(left), Math.log(right)), y = 340 * scaled(point.y, bottom, top);
      const end = x + 12 + 7 * point.name.length;
      if (end < width && kept.every((other) => Math.abs(other.y - y) > 15 || other.x > end || other.end < x)) kept.push({ x, y, end, point });
    }
    return kept.map((one) => one.point);
  }

  const rank = (point) => (point.chosen ? 0 : point.unquantized ? 1 : point.standing === "dominated" ? 3 : 2);

  function pareto(points, { x, y, styles, width }) {
    const names = points.map((point) => point.name), look = series(names, styles, "name");
    const values = points.flatMap((point) => [point.y, point.low, point.high]).filter((value) => value !== null);
    const across = logarithmic(points.map((point) => point.x)), up = near(values);
    const at = {
      x: { field: "x", type: "quantitative", title: x, scale: { type: "log", domain: across, nice: false } },
      y: { field: "y", type: "quantitative", title: y, scale: { domain: up, nice: false, zero: false } },
    };
    const told = [["name", "configuration"], ["x", x], ["text", y], ["standing", "standing"]];
    const tooltip = told.map(([field, title]) => ({ field, title }));
    return {
      height: 340,
      data: { values: points },
      layer: [
        { transform: [{ filter: "datum.low !== null" }], mark: { type: "rule", strokeWidth: 1.4 }, encoding: { x: at.x, y: { ...at.y, field: "low" }, y2: { field: "high" }, color: look.color } },
        { mark: { type: "point", size: 130, filled: true, opacity: 1 }, encoding: { ...at, color: look.color, shape: look.shape, tooltip, fillOpacity: { condition: { test: "datum.standing === 'dominated'", value: 0.25 }, value: 1 }, stroke: look.color } },
        { data: { values: apart(points, across, up, width - 60) }, mark: { type: "text", align: "left", dx: 9, dy: -8, fontSize: 12 }, encoding: { ...at, text: { field: "name" } } },
      ],
    };
  }

  function logarithmic(values) {
    const low = Math.min(...values), high = Math.max(...values), room = Math.max(1.06, (high / low) ** 0.14);
    return [low / room, high * room ** 1.6];
  }

  function riskCoverage(points, names, { styles, risk, top }) {
    const look = series(names, styles, "name");
    const y = { field: "risk", type: "quantitative", title: "risk: wrong among these, %", scale: { domain: [0, top], clamp: true } };
    return {
      height: 320,
      layer: [
        { data: { values: [{ risk }] }, mark: { type: "rule", strokeDash: [2, 3], color: color("soft") }, encoding: { y } },
        {
          data: { values: points },
          mark: { type: "line", strokeWidth: 2.2, clip: true },
          encoding: {
            x: { field: "coverage", type: "quantitative", title: "coverage: questions answered, %", scale: { domain: [0, 100] } },
            y, color: look.color, strokeDash: look.strokeDash,
            tooltip: [{ field: "name", title: "configuration" }, { field: "coverage", title: "coverage, %" }, { field: "risk", title: "risk, %" }],
          },
        },
      ],
    };
  }

  function reliability(bins, names, { styles }) {
    const look = series(names, styles, "name");
    const domain = near(bins.flatMap((bin) => [bin.confidence, bin.low, bin.high]), 0, 100);
    const x = { field: "confidence", type: "quantitative", title: "confidence, %", scale: { domain, zero: false } };
    const y = { field: "accuracy", type: "quantitative", title: "accuracy, %", scale: { domain, zero: false } };
    const ends = [{ confidence: domain[0], accuracy: domain[0] }, { confidence: domain[1], accuracy: domain[1] }];
    return {
      height: 320,
      layer: [
        { data: { values: ends }, mark: { type: "line", strokeDash: [2, 3], color: color("soft") }, encoding: { x, y } },
        { data: { values: bins }, mark: { type: "rule", clip: true }, encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color: look.color } },
        {
          data: { values: bins },
          mark: { type: "line", point: { filled: true, size: 45 }, strokeWidth: 1.6, clip: true },
          encoding: {
            x, y, color: look.color, strokeDash: look.strokeDash,
            tooltip: [{ field: "name", title: "configuration" }, { field: "confidence", title: "mean confidence, %" }, { field: "accuracy", title: "accuracy, %" }, { field: "n", title: "questions" }],
          },
        },
      ],
    };
  }

  function shifts(points, names, { styles, y }) {
    const look = series(names, styles, "name");
    return {
      height: 340,
      data: { values: points },
      mark: { type: "line", point: { filled: true, size: 55 }, strokeWidth: 1.6 },
      encoding: {
        x: { field: "set", type: "nominal", sort: null, title: null, axis: { labelAngle: -40 } },
        y: { field: "value", type: "quantitative", title: y, scale: { zero: false } },
        color: look.color, strokeDash: look.strokeDash,
        tooltip: [{ field: "name", title: "configuration" }, { field: "set", title: "asked" }, { field: "value", title: y }, { field: "n", title: "questions" }],
      },
    };
  }

  function changes(rows, { title }) {
    const x = { field: "change", type: "quantitative", title };
    const y = { field: "slice", type: "nominal", sort: null, title: null, axis: { labelLimit: 260 } };
    const tint = { condition: { test: "datum.told === 'worse'", value: color("bad") }, value: color("soft") };
    return {
      height: { step: 26 },
      data: { values: rows },
      layer: [
        { data: { values: [{ zero: 0 }] }, mark: { type: "rule", color: color("soft") }, encoding: { x: { field: "zero", type: "quantitative" } } },
        { mark: { type: "rule", strokeWidth: 2 }, encoding: { x: { ...x, field: "low" }, x2: { field: "high" }, y, color: tint } },
        { mark: { type: "point", filled: true, size: 90, opacity: 1 }, encoding: { x, y, color: tint, tooltip: [{ field: "slice", title: "slice" }, { field: "text", title }, { field: "questions", title: "questions" }] } },
      ],
    };
  }

  // Without evaluated code, so that a policy that forbids it (MLflow's, a mail reader's) does not forbid the chart.
  async function draw(place, specOf, label) {
    const width = Math.max(240, place.clientWidth);
    const options = { actions: false, renderer: "svg", ast: true, config: theme(), tooltip: { theme: "custom" } };
    place.setAttribute("aria-label", label);
    const whole = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", width, autosize: { type: "fit-x", contains: "padding" }, description: label, ...specOf(width) };
    await window.vegaEmbed(place, whole, options);
  }

  return { looks, color, pareto, riskCoverage, reliability, shifts, changes, draw };
})();
