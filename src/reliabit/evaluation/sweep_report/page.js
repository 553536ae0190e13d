(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const state = { family: 0, confidence: null, x: null, y: null, risk: 0, cell: 0, flip: 0, hidden: new Set() };
  let redraws = [];

  // Elements are made of text alone, so that no question or answer can bring markup of its own.
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const family = () => report.families[state.family];
  const cells = () => family().cells;
  const of = (cell) => cell.by_confidence[state.confidence];
  const fixed = (value, digits) => value.toFixed(digits);
  const share = (value) => (value === null || value === undefined ? "–" : `${fixed(value, 1)} %`);
  const signed = (value, digits) => `${value < 0 ? "−" : "+"}${fixed(Math.abs(value), digits)}`;
  const within = (number, digits, form = fixed) => `[${form(number.low, digits)}, ${form(number.high, digits)}]`;
  const required = () => report.risks.indexOf(report.required);
  const certified = (cell) => of(cell).points[required()];

  function section(id, title, short, ...children) {
    return el("section", { id, "aria-labelledby": `${id}-title`, "data-short": short }, el("h2", { id: `${id}-title` }, title), ...children);
  }

  function chooser(label, options, chosen, pick, id) {
    const list = el("select", { id, onchange: (event) => pick(Number(event.target.value)) });
    options.forEach((text, number) => list.append(el("option", { value: number, selected: number === chosen }, text)));
    return el("label", {}, `${label} `, list);
  }

  // Each chart is drawn when its size is known, and again when colors or choices change.
  function chart(label, spec) {
    const place = el("div", { class: "chart", role: "group" });
    redraws.push(() => Charts.draw(place, spec, typeof label === "function" ? label() : label));
    return place;
  }

  function live(build) {
    const place = el("div");
    redraws.push(() => place.replaceChildren(...build()));
    return place;
  }

  const redraw = () => Promise.all(redraws.map((one) => one()));

  function verdict() {
    const told = family().verdict;
    const stop = told.indexOf(". ");
    const first = told ? (stop < 0 ? told : told.slice(0, stop + 1)) : `${family().where}: ${cells().length} configurations were measured.`;
    return section(
      "verdict", "What happened, and what to deploy", "Verdict",
      el("p", { class: "verdict" }, first),
      stop < 0 ? null : el("p", {}, told.slice(stop + 2)),
      live(() => [el("p", {}, plainly()), el("ul", { class: "numbers" }, ...keyNumbers())]),
      el("p", { class: "soft" }, `${family().asked} questions, ${cells().length} configurations. Certified coverage is the share of questions that a threshold answers whose risk holds with ${fixed(100 - report.delta, 0)} % probability, whichever of ${report.compared} configurations is picked.`),
    );
  }

  function spoken() {
    return cells().find((cell) => cell.chosen) || cells().reduce((least, cell) => ((cell.costs["stored MiB"] || 1e9) < (least.costs["stored MiB"] || 1e9) ? cell : least));
  }

  // In plain words: what the chosen configuration, or else the smallest, gave up against the unquantized one.
  function plainly() {
    const one = spoken(), base = cells()[0];
    if (!base.unquantized || one === base) return "";
    const size = base.costs["stored MiB"] && one.costs["stored MiB"] ? `takes ${fixed(100 * one.costs["stored MiB"] / base.costs["stored MiB"], 0)} % of the bytes` : "was compared";
    const said = Object.entries(one.paired).map(([name, found]) => {
      const real = found.low > 0 || found.high < 0;
      return `${name} ${signed(found.value, 2)} points ${within(found, 2, signed)}, ${found.higher ? "higher" : "lower"} is better${real ? "" : " (may be luck)"}`;
    });
    return `${one.name} ${size} of the unquantized model. Against it, on the same questions: ${said.join("; ")}.`;
  }

  function keyNumbers() {
    const one = spoken(), base = cells()[0], numbers = of(one).numbers;
    const item = (label, value, before) => el("li", {}, label, el("strong", {}, value), el("span", { class: "soft" }, before ? `unquantized ${before}` : ""));
    const accuracy = (cell) => (of(cell).numbers["accuracy %"] ? share(of(cell).numbers["accuracy %"].value) : "–");
    const compared = base.unquantized && one !== base;
    return [
      el("li", {}, one.chosen ? "the policy's choice" : family().verdict ? "the smallest (not approved)" : "the smallest", el("strong", {}, one.name)),
      item("stored", one.costs["stored MiB"] ? `${one.costs["stored MiB"]} MiB` : "–", compared && base.costs["stored MiB"] ? `${base.costs["stored MiB"]} MiB` : ""),
      item("accuracy", accuracy(one), compared ? accuracy(base) : ""),
      item(CERTIFIED(), share(number(one, CERTIFIED()).value), compared ? share(number(base, CERTIFIED()).value) : ""),
      numbers["AURC %"] ? item("AURC", share(numbers["AURC %"].value), compared ? share(of(base).numbers["AURC %"].value) : "") : null,
    ].filter(Boolean);
  }

  // Of what was certified, the share of calibration questions, as everywhere else; else what these answers show.
  const CERTIFIED = () => `${certified(cells()[0]).certified ? "certified " : ""}C@${report.required}%`;

  function columns() {
    const names = Object.keys(of(cells()[0]).numbers);
    return [...new Set([...names, CERTIFIED()])];
  }

  function number(cell, name) {
    if (name === CERTIFIED() && certified(cell).certified) return { value: certified(cell).promised, low: null, high: null, digits: 1, higher: true };
    return of(cell).numbers[name];
  }

  function paretoSection() {
    const styles = Charts.looks(cells());
    const xs = [...new Set(cells().flatMap((cell) => Object.keys(cell.costs)))];
    if (!xs.length) return null;
    state.x = xs.includes(state.x) ? state.x : xs[0];
    state.y = columns().includes(state.y) ? state.y : columns()[0];
    const points = () => cells().filter((cell) => cell.costs[state.x] && number(cell, state.y)).map((cell) => {
      const found = number(cell, state.y), ends = found.low === null ? "" : ` ${within(found, found.digits)}`;
      return { name: cell.name, x: cell.costs[state.x], y: found.value, low: found.low, high: found.high, text: `${fixed(found.value, found.digits)}${ends}`, standing: cell.standing || "not placed", chosen: cell.chosen, unquantized: cell.unquantized };
    });
    const pick = (key, options) => (at) => { state[key] = options[at]; redraw(); };
    return section(
      "pareto", "Size against reliability", "Size",
      el("p", {}, `Each mark is a configuration; a bar is its interval at ${fixed(report.level, 0)} %. Faint marks are surely worse than another one in everything that the policy weighs. Point at a mark for its numbers.`),
      el("div", { class: "controls" }, chooser("Across", xs, xs.indexOf(state.x), pick("x", xs), "axis-x"), chooser("Up", columns(), columns().indexOf(state.y), pick("y", columns()), "axis-y"), confidenceChooser()),
      chart(() => `${state.y} against ${state.x} of each configuration`, (width) => Charts.pareto(points(), { x: state.x, y: state.y, styles, width })),
    );
  }

  function confidenceChooser() {
    const names = family().confidences;
    return chooser("Confidence", names, names.indexOf(state.confidence), (at) => { state.confidence = names[at]; show(); }, null);
  }

  function tableSection() {
    return section("table", "Every configuration", "Table", live(() => {
      const costs = [...new Set(cells().flatMap((cell) => Object.keys(cell.costs)))];
      const paired = [...new Set(cells().flatMap((cell) => Object.keys(cell.paired)))];
      const measured = columns();
      const best = Object.fromEntries(measured.map((name) => [name, bestOf(cells().map((cell) => number(cell, name)).filter(Boolean))]));
      const head = ["configuration", ...measured, ...paired.map((name) => `Δ ${name}`), ...costs];
      const rows = cells().map((cell) => el(
        "tr", { class: cell.chosen ? "chosen" : "" },
        el("th", { scope: "row" }, cell.name, cell.chosen ? " (chosen)" : ""),
        ...measured.map((name) => numberCell(number(cell, name), best[name])),
        ...paired.map((name) => differenceCell(cell.paired[name])),
        ...costs.map((name) => el("td", {}, name in cell.costs ? String(cell.costs[name]) : "–")),
      ));
      const caption = `By ${state.confidence}. ★ best of a column. Below a number its interval at ${fixed(report.level, 0)} %; Δ is the paired difference to ${cells()[0].name} in points, with intervals that hold together; * excludes zero.`;
      return [el("p", { class: "soft", id: "table-about" }, caption), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of configurations" }, el("table", { "aria-describedby": "table-about" }, el("thead", {}, el("tr", {}, ...head.map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, ...rows)))];
    }));
  }

  function bestOf(found) {
    const values = found.map((one) => one.value);
    if (new Set(values).size < 2) return null;
    return found[0].higher ? Math.max(...values) : Math.min(...values);
  }

  function numberCell(found, best) {
    if (!found) return el("td", {}, "–");
    const ends = found.low === null ? null : el("small", {}, within(found, found.digits));
    return el("td", { class: best !== null && found.value === best ? "best" : "" }, fixed(found.value, found.digits), ends);
  }

  function differenceCell(found) {
    if (!found) return el("td", {}, "–");
    const star = found.low > 0 || found.high < 0 ? "*" : "";
    return el("td", {}, `${signed(found.value, 2)}${star}`, el("small", {}, within(found, 2, signed)));
  }

  function key(look) {
    const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawn.setAttribute("class", "key");
    drawn.setAttribute("viewBox", "0 0 36 12");
    drawn.setAttribute("aria-hidden", "true");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
    for (const [name, value] of Object.entries({ x1: 1, x2: 35, y1: 6, y2: 6, "stroke-width": 3, "stroke-dasharray": look.dash[1] ? look.dash.join(" ") : "none" })) line.setAttribute(name, value);
    line.style.stroke = `var(--${look.color})`;
    drawn.append(line);
    return drawn;
  }

  const method = (cell) => (cell.unquantized ? "none" : cell.method);
  const width = (cell) => (cell.unquantized ? "unquantized" : cell.bits === null ? "mixed" : `${cell.bits} bits`);
  const shown = () => cells().filter((cell) => ![method(cell), width(cell), `=${cell.name}`].some((word) => state.hidden.has(word)));

  function toggles(styles) {
    const box = (word, ...label) => el("label", {}, el("input", { type: "checkbox", checked: !state.hidden.has(word), onchange: (event) => { state.hidden[event.target.checked ? "delete" : "add"](word); redraw(); } }), " ", ...label);
    const group = (title, words) => (words.length > 1 ? el("fieldset", {}, el("legend", {}, title), ...words.map((word) => box(word, word))) : null);
    return el(
      "div", { class: "controls" },
      group("Method", [...new Set(cells().map(method))]), group("Width", [...new Set(cells().map(width))]), confidenceChooser(),
      el("details", { open: cells().length <= 8 }, el("summary", {}, "Key, and configurations one by one"), el("fieldset", {}, el("legend", {}, "Configuration"), ...cells().map((cell) => box(`=${cell.name}`, key(styles.get(cell.name)), cell.name)))),
    );
  }

  function curvesSection() {
    const styles = Charts.looks(cells()), names = cells().map((cell) => cell.name);
    const risks = (cell) => of(cell).curve.map(([coverage, risk]) => ({ name: cell.name, coverage, risk }));
    const bins = (cell) => of(cell).bins.map(([confidence, accuracy, low, high, n]) => ({ name: cell.name, confidence, accuracy, low, high, n }));
    const top = () => Math.max(2 * report.required, ...shown().map((cell) => of(cell).curve.at(-1)[1])) * 1.05;
    return section(
      "curves", "How far each can be trusted", "Trust",
      el("p", {}, "Left: answering only the questions it is surest of, how many are wrong. Right: how often it is right when it says it is so sure; on the dotted line it is exactly as sure as right, below it it is too sure."),
      toggles(styles),
      el("div", { class: "pair" },
        chart("Risk against coverage of the configurations that are ticked", () => Charts.riskCoverage(shown().flatMap(risks), names, { styles, risk: report.required, top: top() })),
        chart("Accuracy against confidence of the configurations that are ticked", () => Charts.reliability(shown().flatMap(bins), names, { styles }))),
      family().cells.some((cell) => of(cell).bins.length) ? null : el("p", { class: "soft" }, `${state.confidence} is no probability, so that it has no reliability diagram.`),
    );
  }

  function abstentionSection() {
    const chosen = () => cells()[state.cell];
    const slider = el("input", {
      type: "range", id: "risk", min: 0, max: report.risks.length - 1, step: 1, value: state.risk,
      oninput: (event) => { state.risk = Number(event.target.value); told(); redraw(); },
    });
    const told = () => slider.setAttribute("aria-valuetext", `${report.risks[state.risk]} % of what is answered may be wrong`);
    told();
    return section(
      "abstain", "Let it abstain", "Abstain",
      el("p", {}, "Say what share of its answers may be wrong: the threshold follows, and with it how much is answered and which questions are withheld."),
      el("div", { class: "controls" }, chooser("Configuration", cells().map((cell) => cell.name), state.cell, (at) => { state.cell = at; redraw(); }, "abstain-cell"), confidenceChooser()),
      el("label", { for: "risk" }, "Risk target ", el("output", { for: "risk", id: "target" })), slider,
      live(() => {
        document.getElementById("target").textContent = `${report.risks[state.risk]} %`;
        const point = of(chosen()).points[state.risk];
        const promise = point.certified
          ? `With ${fixed(100 - report.delta, 0)} % probability no more than ${report.risks[state.risk]} % of what this threshold answers is wrong, if the target was fixed before looking and questions stay of this kind.`
          : "Not certified: no calibration split was asked, so this threshold was read off the very answers that it is shown on.";
        return [
          el("ul", { class: "numbers", "aria-live": "polite" },
            el("li", {}, "answered", el("strong", { id: "coverage" }, share(point.coverage))),
            el("li", {}, "right among these", el("strong", {}, share(point.risk === null ? null : 100 - point.risk))),
            el("li", {}, "wrong among these", el("strong", {}, share(point.risk))),
            el("li", {}, "threshold", el("strong", {}, point.threshold === null ? "answers nothing" : `≥ ${Number(point.threshold.toPrecision(5))}`))),
          el("p", { class: "soft" }, promise), ...examples(point),
        ];
      }),
    );
  }

  const confidenceAt = () => 2 + family().confidences.indexOf(state.confidence);

  function examples(point) {
    const found = family().questions.slice(0, family().spread).sort((one, other) => other.said[state.cell][confidenceAt()] - one.said[state.cell][confidenceAt()]);
    if (!found.length) return [];
    const answered = (one) => point.threshold !== null && one.said[state.cell][confidenceAt()] >= point.threshold;
    const list = (title, questions, open) => el("details", { open }, el("summary", {}, el("strong", {}, `${title}: ${questions.length} of ${found.length} examples`)), el("ul", { class: "cards" }, ...questions.map((one) => card(one, state.cell))));
    return [list("Answered", found.filter(answered), true), list("Withheld", found.filter((one) => !answered(one)), true)];
  }

  function card(asked, at) {
    const base = cells()[0].unquantized && at !== 0 ? said(asked, 0, "unquantized") : null;
    const picture = asked.picture ? el("img", { src: family().pictures[asked.picture], alt: `picture of the question: ${asked.question}`, loading: "lazy" }) : null;
    const references = asked.references.length ? el("p", { class: "soft" }, `reference: ${asked.references.join(", ")}`) : null;
    return el("li", { class: "card" }, picture, el("p", { class: "asked" }, asked.question), said(asked, at, cells()[at].name), base, references);
  }

  function said(asked, at, who) {
    const [answer, accuracy] = asked.said[at], sure = asked.said[at][confidenceAt()], right = accuracy >= 0.5;
    const mark = right ? "✓ right" : "✗ wrong";
    const value = sure === null || sure === undefined ? "" : `, ${state.confidence} ${Number(sure.toPrecision(3))}`;
    return el("p", {}, `${who}: “${answer}” `, el("span", { class: right ? "right" : "wrong" }, mark), el("span", { class: "soft" }, value));
  }

  function flipsSection() {
    if (!family().flips.length) return section("flips", "Right before, confidently wrong after", "Flips", el("p", {}, "No unquantized model was measured beside these configurations, so there is no before."));
    const names = cells().slice(1).map((cell, at) => `${cell.name} (${family().flips[at].count})`);
    state.flip = Math.min(state.flip, names.length - 1);
    return section(
      "flips", "Right before, confidently wrong after", "Flips",
      el("p", {}, `Questions that the unquantized model answers rightly, and a quantized one wrongly with a probability above ${report.sure} %: nobody who trusts the confidence would look at these.`),
      el("div", { class: "controls" }, chooser("Configuration (how many)", names, state.flip, (at) => { state.flip = at; redraw(); }, "flip-cell")),
      live(() => {
        const found = family().flips[state.flip];
        if (!found.shown.length) return [el("p", {}, found.count ? `${found.count} of ${family().asked} questions; none of them is among the examples of this page.` : `None of ${family().asked} questions.`)];
        return [
          el("p", { class: "soft" }, `${found.count} of ${family().asked} questions; the surest of them:`),
          el("ul", { class: "cards" }, ...found.shown.map((at) => card(family().questions[at], state.flip + 1))),
        ];
      }),
    );
  }

  function slicesSection() {
    const { verdict, rows } = family().slices || { rows: [] };
    if (!rows.length) return null;
    const names = [...new Set(rows.map((row) => row.configuration))], rates = [...new Set(rows.map((row) => row.rate))];
    const chosen = names.findIndex((name) => cells().some((cell) => cell.chosen && cell.name === name));
    const picked = { name: chosen < 0 ? names.length - 1 : chosen, rate: 0 };
    const pick = (key) => (at) => { picked[key] = at; redraw(); };
    const found = () => rows.filter((row) => row.configuration === names[picked.name] && row.rate === rates[picked.rate])
      .map((row) => ({ ...row, text: `${signed(row.change, 1)} ${within(row, 1, signed)}, ${fixed(row.before, 1)} % before, ${fixed(row.after, 1)} % after` }));
    const title = () => `change of ${rates[picked.rate]}, points`;
    return section(
      "slices", "Whom it hits", "Slices",
      el("p", { class: "verdict" }, verdict),
      el("p", {}, "What quantization changes for each kind of question and picture, on the same questions; all intervals hold together. Coloured: worse, and more than luck explains."),
      el("div", { class: "controls" }, chooser("Configuration", names, picked.name, pick("name"), "slice-cell"), chooser("Change of", rates, 0, pick("rate"), "slice-rate")),
      chart(() => `${title()} in each slice`, () => Charts.changes(found(), { title: title() })),
    );
  }

  function shiftsSection() {
    if (!cells().some((cell) => cell.shifts.length)) return null;
    const styles = Charts.looks(cells()), names = cells().map((cell) => cell.name);
    const points = (value) => shown().flatMap((cell) => cell.shifts.map((one) => ({ name: cell.name, set: one.name.replaceAll("_", " "), n: one.n, value: value(one) })));
    return section(
      "shifts", "Under shift", "Shifts",
      el("p", {}, "The same model asked changed pictures or changed questions, and mixtures of changed and unchanged. What is ticked above is shown."),
      el("div", { class: "pair" },
        chart("Accuracy under each shift", () => Charts.shifts(points((one) => one.accuracy), names, { styles, y: "accuracy, %" })),
        chart("AURC under each shift", () => Charts.shifts(points((one) => one.aurc[state.confidence]), names, { styles, y: `AURC ${state.confidence}, %` }))),
    );
  }

  function provenanceSection() {
    const { title, facts, runs, config, next } = report.provenance;
    const pairs = (found) => el("dl", {}, ...Object.entries(found).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
    return section(
      "provenance", "Where these numbers come from", "Source",
      pairs({ sweep: title, ...facts }),
      next ? el("p", {}, "Next: ", el("code", {}, next)) : null,
      el("details", {}, el("summary", {}, "Runs and fingerprints"), ...Object.entries(runs).map(([name, found]) => el("div", {}, el("h3", {}, name), pairs(found)))),
      config ? el("details", {}, el("summary", {}, "Composed configuration"), el("pre", { tabindex: 0 }, config)) : null,
    );
  }

  function show() {
    redraws = [];
    const names = family().confidences;
    if (!names.includes(state.confidence)) state.confidence = names.includes(report.wanted) ? report.wanted : names[0];
    const built = [verdict(), paretoSection(), tableSection(), curvesSection(), abstentionSection(), flipsSection(), slicesSection(), shiftsSection(), provenanceSection()].filter(Boolean);
    const focused = document.activeElement && document.activeElement.id, top = window.scrollY;
    document.getElementById("main").replaceChildren(...built);
    document.getElementById("contents").replaceChildren(...built.map((one) => el("a", { href: `#${one.id}` }, one.dataset.short)));
    window.scrollTo(0, top);
    if (focused && document.getElementById(focused)) document.getElementById(focused).focus();
    return redraw();
  }

  function setTheme(name) {
    document.documentElement.dataset.theme = name;
    document.getElementById("theme").textContent = name === "dark" ? "Light" : "Dark";
    return redraw();
  }

  function enter(at) {
    Object.assign(state, { family: at, cell: Math.max(0, report.families[at].cells.findIndex((cell) => cell.chosen)), flip: 0, hidden: new Set() });
    // Where nothing is chosen the narrowest is looked at, as that is where reliability goes first.
    if (!report.families[at].cells.some((cell) => cell.chosen)) state.cell = report.families[at].cells.length - 1;
    state.flip = Math.max(0, state.cell - 1);
    const points = report.families[at].cells[state.cell].by_confidence;
    const firstAnswered = Object.values(points)[0].points.findIndex((point, number) => number >= required() && point.coverage > 0);
    state.risk = firstAnswered < 0 ? required() : firstAnswered;
    return show();
  }

  const where = document.getElementById("where");
  report.families.forEach((one, at) => where.append(el("option", { value: at }, one.where)));
  document.getElementById("where-label").hidden = report.families.length < 2;
  where.addEventListener("change", (event) => enter(Number(event.target.value)));
  document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  document.documentElement.dataset.theme = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.getElementById("theme").textContent = document.documentElement.dataset.theme === "dark" ? "Light" : "Dark";
  let resized = null;
  window.addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(redraw, 150); });
  enter(0).then(() => { document.documentElement.dataset.ready = "yes"; });
})();
