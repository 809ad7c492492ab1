"use strict";
// Everything here is a convenience: the page reads the same with scripts blocked.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);
  byId("tools").hidden = false;

  // A link to a finding opens it. Browsers do that on their own where the target lies inside; older ones do not.
  const reveal = () => {
    let target = null;
    try { target = byId(decodeURIComponent(location.hash.slice(1))); } catch { return; }
    if (!target) return;
    const own = target.querySelector(":scope > details");
    if (own) own.open = true;
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  const folds = () => all("details:not(.data)");
  byId("unfold").addEventListener("click", (event) => {
    const open = folds().some((fold) => !fold.open);
    folds().forEach((fold) => { fold.open = open; });
    event.target.textContent = open ? "Close all" : "Open all";
  });

  const root = document.documentElement;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds().filter((fold) => !fold.open);
    closed.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));
  byId("print").addEventListener("click", () => print());

  // Suppression comments and commands are copied by a click.
  all("code.copy").forEach((code) => {
    if (!navigator.clipboard) return;
    code.title = "Click to copy";
    code.addEventListener("click", () => navigator.clipboard.writeText(code.firstChild.data).then(() => {
      code.classList.add("copied");
      setTimeout(() => code.classList.remove("copied"), 1500);
    }, () => {}));
  });

  // So is a diff, which is shown whole.
  all("button.take").forEach((button) => {
    if (!navigator.clipboard) return;
    const code = button.parentElement.querySelector("pre");
    button.hidden = false;
    button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent).then(() => {
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    }, () => {}));
  });

  // A finding, as Markdown or as text.
  const copies = JSON.parse(byId("copies").textContent);
  all("p.copies").forEach((line) => { line.hidden = !navigator.clipboard; });
  all("button[data-copy]").forEach((button) => {
    const label = button.textContent;
    button.addEventListener("click", () => navigator.clipboard.writeText(copies[button.dataset.of][button.dataset.copy])
      .then(() => {
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = label; }, 1500);
      }, () => {}));
  });

  // The filter leaves the findings and the verdicts that have all the words.
  const wanted = byId("wanted");
  const matches = (node, words) => words.every((word) => node.textContent.toLowerCase().includes(word));
  const sift = () => {
    const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    all("#findings > .finding, .verdicts > li").forEach((node) => {
      node.hidden = !matches(node, words);
      shown += !node.hidden;
    });
    byId("found").textContent = words.length ? `${shown} shown, verdicts included` : "";
  };
  if (wanted) {
    byId("filter").hidden = false;
    wanted.addEventListener("input", sift);
    wanted.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { wanted.value = ""; sift(); wanted.blur(); }
    });
  }

  // Keys: j and k go to the next and the previous finding.
  byId("keys").hidden = false;
  const keys = { o: () => byId("unfold").click(), t: () => byId("theme").click(), "/": () => wanted && wanted.focus() };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, button")) return;
    if (Object.hasOwn(keys, event.key)) { event.preventDefault(); keys[event.key](); }
    if (!["j", "k"].includes(event.key)) return;
    const stops = all(".finding > .about > summary").filter((stop) => !stop.checkVisibility || stop.checkVisibility());
    const at = stops.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
    const next = stops[Math.max(0, Math.min(at, stops.length - 1))];
    if (next) { next.focus(); next.scrollIntoView({ block: "center" }); }
  });

  // Reading a plot: the nearest row of its own table.
  const number = (text) => text === "NaN" ? NaN : parseFloat(text.replaceAll(",", ""));
  all(".axes[data-x]").forEach((axes) => {
    const table = axes.closest("figure").querySelector(".data table");
    if (!table) return;
    const names = all("th", table).map((cell) => cell.textContent);
    const rows = all("tbody tr", table).map((row) => all("td", row).map((cell) => cell.textContent));
    const [low, high, log] = axes.dataset.x.split(" ").map(Number);
    const place = (x) => log ? Math.log(x / low) / Math.log(high / low) : (x - low) / (high - low);
    const box = axes.parentElement;
    box.classList.add("read");
    const shown = document.createElement("output");
    const cross = document.createElementNS("http://www.w3.org/2000/svg", "line");
    cross.setAttribute("class", "cross");
    cross.setAttribute("y1", "0");
    cross.setAttribute("y2", "100%");
    box.addEventListener("pointermove", (event) => {
      const area = axes.getBoundingClientRect();
      const share = (event.clientX - area.left) / area.width;
      let best = null;
      let distance = Infinity;
      for (const row of rows) {
        const away = Math.abs(place(number(row[0])) - share);
        if (away < distance) { best = row; distance = away; }
      }
      if (!best) return;
      shown.textContent = best.map((cell, i) => cell && `${names[i]} ${cell}`).filter(Boolean).join("  ·  ");
      const at = `${100 * place(number(best[0]))}%`;
      cross.setAttribute("x1", at);
      cross.setAttribute("x2", at);
      axes.append(cross);
      box.append(shown);
    });
    box.addEventListener("pointerleave", () => { cross.remove(); shown.remove(); });
  });

  // Reading a heat map: its pixels are indices into a scale, and the file of the picture lies in the page.
  const pixels = async (address) => {
    const file = Uint8Array.from(atob(address.split(",")[1]), (letter) => letter.charCodeAt(0));
    const view = new DataView(file.buffer);
    let packed = null;
    for (let at = 8; at < file.length; at += 12 + view.getUint32(at)) {
      const kind = String.fromCharCode(...file.subarray(at + 4, at + 8));
      if (kind === "IDAT") packed = file.subarray(at + 8, at + 8 + view.getUint32(at));
    }
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const rows = new Uint8Array(await new Response(stream).arrayBuffer());
    const width = view.getUint32(16);
    return { width, height: view.getUint32(20), at: (row, column) => rows[row * (width + 1) + 1 + column] };
  };
  all(".axes[data-heat]").forEach((axes) => {
    const told = JSON.parse(axes.dataset.heat);
    const box = axes.parentElement;
    box.classList.add("read");
    const shown = document.createElement("output");
    const spot = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    spot.setAttribute("class", "spot");
    const value = (index) => index === told.shades ? "0" : index > told.shades ? "not finite"
      : `≈ ${Number((told.low * (told.high / told.low) ** ((index + .5) / told.shades)).toPrecision(2))}`;
    let picture = null;
    box.addEventListener("pointermove", async (event) => {
      if (typeof DecompressionStream === "undefined") return;
      picture ??= pixels(axes.querySelector("image").getAttribute("href"));
      const area = axes.getBoundingClientRect();
      const read = await picture;
      const place = (share, count) => Math.max(0, Math.min(count - 1, Math.floor(share * count)));
      const column = place((event.clientX - area.left) / area.width, read.width);
      const row = place((event.clientY - area.top) / area.height, read.height);
      shown.textContent = `${told.rows[row]}  ·  step ${told.steps[column]}  ·  ${told.unit} ${value(read.at(row, column))}`;
      const sizes = { x: column / read.width, y: row / read.height, width: 1 / read.width, height: 1 / read.height };
      for (const [name, share] of Object.entries(sizes)) spot.setAttribute(name, `${100 * share}%`);
      axes.append(spot);
      box.append(shown);
    });
    box.addEventListener("pointerleave", () => { spot.remove(); shown.remove(); });
  });
})();
