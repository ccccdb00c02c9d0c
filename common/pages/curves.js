"use strict";
// Draws curves as SVG over steps or minutes, and tells the values under the pointer.

(() => {
  const HEIGHT = 190;
  const MARGIN = { left: 50, right: 20, top: 8, bottom: 24 };
  const DOTS = 25; // lines of no more points than this show them

  const exponent = (power) => [...String(power)].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] ?? "⁻").join("");
  const short = (value) => {
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-4)) {
      const power = Math.floor(Math.log10(size) + 1e-9);
      const factor = Number((value / 10 ** power).toPrecision(3));
      return `${factor === 1 ? "" : `${factor}·`}10${exponent(power)}`;
    }
    return String(Number(value.toPrecision(4)));
  };

  // Round numbers in [low, high], about ``count`` of them.
  const linearTicks = (low, high, count) => {
    const rough = (high - low) / count;
    const decade = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * decade).find((size) => size >= rough);
    const first = Math.ceil(low / step - 1e-9);
    const last = Math.floor(high / step + 1e-9);
    return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  };

  const logTicks = (low, high, count) => {
    const decades = Math.log10(high / low);
    const factors = decades < 1.5 ? [1, 2, 5] : [1];
    const every = Math.max(Math.round(decades / count), 1);
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      if (power % every === 0) factors.forEach((factor) => ticks.push(factor * 10 ** power));
    }
    return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  };

  const extent = (values) => [Math.min(...values), Math.max(...values)];

  class Plot {
    constructor(figure, { log, lines }, axis) {
      Object.assign(this, { figure, log, lines, axis });
      this.svg = figure.querySelector("svg");
      this.reading = figure.querySelector(".reading");
      this.svg.addEventListener("pointermove", (event) => this.read(event));
      this.svg.addEventListener("pointerdown", (event) => this.read(event));
      this.svg.addEventListener("pointerleave", () => this.forget());
      new ResizeObserver(() => this.draw()).observe(this.svg);
    }

    show(axis) {
      this.axis = axis;
      this.draw();
    }

    add(tag, attributes, words) {
      const made = document.createElementNS(this.svg.namespaceURI, tag);
      Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
      if (words !== undefined) made.textContent = words;
      this.svg.append(made);
      return made;
    }

    // Where a value of the data stands in the picture.
    x(point) {
      const [low, high] = this.rangeX;
      const share = (point[this.axis === "steps" ? 0 : 1] - low) / (high - low || 1);
      return MARGIN.left + share * (this.width - MARGIN.left - MARGIN.right);
    }

    y(value) {
      const [low, high] = this.rangeY;
      const scale = this.log ? Math.log : (number) => number;
      const share = (scale(value) - scale(low)) / (scale(high) - scale(low));
      return HEIGHT - MARGIN.bottom - share * (HEIGHT - MARGIN.top - MARGIN.bottom);
    }

    draw() {
      const points = this.lines.flatMap((line) => line.points);
      this.width = this.svg.clientWidth;
      this.svg.replaceChildren();
      this.forget();
      if (!points.length || this.width < 100) return;
      this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
      const column = this.axis === "steps" ? 0 : 1;
      this.rangeX = [0, Math.max(...points.map((point) => point[column]))];
      const [low, high] = extent(points.map((point) => point[2]));
      // Air above and below, and a height of its own for what never changes.
      const air = this.log ? 1 : 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
      this.rangeY = this.log ? [low / 1.15, high * 1.15] : [low - air, high + air];
      this.drawAxes();
      this.lines.forEach((line) => this.drawLine(line));
      this.cursor = this.add("line", {
        class: "cursor", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden",
      });
    }

    drawAxes() {
      const right = this.width - MARGIN.right;
      const ticks = this.log ? logTicks : linearTicks;
      ticks(...this.rangeY, 4).forEach((tick) => {
        const y = this.y(tick);
        this.add("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y });
        this.add("text", { x: MARGIN.left - 7, y: y + 4, "text-anchor": "end" }, short(tick));
      });
      if (this.rangeX[1] > 0) {
        linearTicks(...this.rangeX, Math.max(this.width / 110, 2)).forEach((tick) => {
          const x = this.x([tick, tick]);
          this.add("text", { x, y: HEIGHT - 6, "text-anchor": "middle" }, short(tick));
        });
      }
      const bottom = HEIGHT - MARGIN.bottom;
      this.add("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom });
    }

    drawLine({ points, colour, dashed }) {
      const kind = `line-${colour}${dashed ? " dashed" : ""}`;
      const places = points.map((point) => `${this.x(point).toFixed(1)} ${this.y(point[2]).toFixed(1)}`);
      if (places.length) this.add("path", { class: `curve ${kind}`, d: `M${places.join("L")}` });
      if (points.length > DOTS) return;
      points.forEach((point) => {
        this.add("circle", { class: `mark ${kind}`, cx: this.x(point), cy: this.y(point[2]), r: 3 });
      });
    }

    read(event) {
      if (!this.cursor) return;
      const at = event.offsetX;
      const nearest = this.lines
        .filter((line) => line.points.length)
        .map((line) => {
          const distance = (point) => Math.abs(this.x(point) - at);
          const point = line.points.reduce((best, p) => (distance(p) < distance(best) ? p : best));
          return { line, point, distance: distance(point) };
        });
      if (!nearest.length) return;
      const closest = nearest.reduce((best, one) => (one.distance < best.distance ? one : best));
      const x = this.x(closest.point);
      this.cursor.setAttribute("x1", x);
      this.cursor.setAttribute("x2", x);
      this.cursor.setAttribute("visibility", "visible");
      const head = document.createElement("b");
      const [step, minutes] = closest.point;
      head.textContent = this.axis === "steps" ? `step ${step}` : `${short(minutes)} min`;
      const rows = nearest.map(({ line, point }) => this.row(line, point));
      this.reading.replaceChildren(head, ...rows);
      this.reading.style.left = `${Math.min(Math.max(x, 70), this.width - 70)}px`;
      this.reading.classList.add("shown");
    }

    row(line, point) {
      const row = document.createElement("span");
      row.className = `line-${line.colour}${line.dashed ? " dashed" : ""}`;
      const value = document.createElement("i");
      value.textContent = short(point[2]);
      row.append(this.lines.length > 1 ? `${line.name} ` : "", value);
      return row;
    }

    forget() {
      this.reading.classList.remove("shown");
      this.cursor?.setAttribute("visibility", "hidden");
    }
  }

  document.querySelectorAll("[data-curves]").forEach((block) => {
    const stage = JSON.parse(document.getElementById(block.dataset.curves).textContent);
    const figures = [...block.querySelectorAll("figure")];
    const plots = stage.map((panel, i) => new Plot(figures[i], panel, "steps"));
    const buttons = block.querySelectorAll("[data-axis]");
    buttons.forEach((button) => {
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        plots.forEach((plot) => plot.show(button.dataset.axis));
      });
    });
  });
})();
