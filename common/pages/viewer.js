"use strict";
// Draws cameras, their pictures, the unit sphere and points on a plain 2D canvas, which works where
// WebGL does not (remote desktops, machines without a GPU). z is up; lengths are sphere radii.

(() => {
  const NEAR = 0.02; // what is closer to the eye, or behind it, is not drawn
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const along = (a, factor, b) => [a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]];
  const minus = (a, b) => along(a, -1, b);
  const length = (a) => Math.sqrt(dot(a, a));
  const unit = (a) => along([0, 0, 0], 1 / Math.max(length(a), 1e-12), a);
  const cross = (a, b) => [
    a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
  ];
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const middle = (quad) => [0, 1, 2].map((i) => quad.reduce((sum, p) => sum + p[i] / 4, 0));
  const choose = (view) =>
    document.dispatchEvent(new CustomEvent("view-selected", { detail: view }));

  // A pinhole: where a point lands on the canvas, and its depth.
  class Eye {
    constructor(position, right, down, focal, centre) {
      Object.assign(this, { position, right, down, focal, centre });
      this.forward = cross(right, down);
    }

    see(point) {
      const ray = minus(point, this.position);
      const depth = dot(ray, this.forward);
      const scale = this.focal / depth;
      return [
        this.centre[0] + scale * dot(ray, this.right),
        this.centre[1] + scale * dot(ray, this.down),
        depth,
      ];
    }
  }

  const eyeInOrbit = ({ azimuth, elevation, distance, target }, width, height) => {
    const level = Math.cos(elevation);
    const out = [level * Math.cos(azimuth), level * Math.sin(azimuth), Math.sin(elevation)];
    const right = [-Math.sin(azimuth), Math.cos(azimuth), 0];
    const position = along(target, distance, out);
    const focal = 1.3 * Math.min(width, height);
    return new Eye(position, right, cross(right, out), focal, [width / 2, height / 2]);
  };

  // The eye of a frustum's camera, its picture filling the canvas.
  const eyeOfFrustum = ({ eye, corners }, width, height) => {
    const [topLeft, topRight, , bottomLeft] = corners;
    const right = unit(minus(topRight, topLeft));
    const sideways = minus(bottomLeft, topLeft);
    const down = unit(along(sideways, -dot(sideways, right), right));
    const plain = new Eye(eye, right, down, 1, [0, 0]);
    const seen = corners.map((corner) => plain.see(corner));
    const range = (i) => [
      Math.min(...seen.map((point) => point[i])), Math.max(...seen.map((point) => point[i])),
    ];
    const [x, y] = [range(0), range(1)];
    const focal = 0.94 * Math.min(width / (x[1] - x[0]), height / (y[1] - y[0]));
    const centre = [
      width / 2 - focal * (x[0] + x[1]) / 2, height / 2 - focal * (y[0] + y[1]) / 2,
    ];
    return new Eye(eye, right, down, focal, centre);
  };

  const tracePath = (context, points, closed) => {
    context.beginPath();
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (closed) context.closePath();
  };

  const inPolygon = ([x, y], polygon) => {
    let inside = false;
    polygon.forEach(([ax, ay], i) => {
      const [bx, by] = polygon[(i + 1) % polygon.length];
      if (ay > y !== by > y && x < ax + ((y - ay) / (by - ay)) * (bx - ax)) inside = !inside;
    });
    return inside;
  };

  // A canvas maps pictures affinely only: perspective comes from enough small pieces.
  const drawPicture = (context, picture, corners, eye) => {
    const seen = corners.map((corner) => eye.see(corner));
    const depths = seen.map((point) => point[2]);
    const slant = Math.max(...depths) / Math.min(...depths) - 1;
    const size = Math.hypot(seen[2][0] - seen[0][0], seen[2][1] - seen[0][1]);
    const pieces = clamp(Math.ceil(Math.sqrt((slant * size) / 4)), 1, 8);
    const [topLeft, topRight, , bottomLeft] = corners;
    const across = minus(topRight, topLeft);
    const down = minus(bottomLeft, topLeft);
    const at = (i, j) => eye.see(along(along(topLeft, i / pieces, across), j / pieces, down));
    const wide = picture.naturalWidth / pieces;
    const high = picture.naturalHeight / pieces;
    for (let j = 0; j < pieces; j += 1) {
      for (let i = 0; i < pieces; i += 1) {
        const [a, b, c, d] = [at(i, j), at(i + 1, j), at(i + 1, j + 1), at(i, j + 1)];
        context.save();
        if (pieces > 1) {
          // Half a pixel larger than the piece, or the background shines through the joints.
          const heart = [(a[0] + c[0]) / 2, (a[1] + c[1]) / 2];
          const grown = [a, b, c, d].map(([x, y]) => {
            const away = Math.max(Math.hypot(x - heart[0], y - heart[1]), 1e-6);
            const factor = 1 + 0.7 / away;
            return [heart[0] + factor * (x - heart[0]), heart[1] + factor * (y - heart[1])];
          });
          tracePath(context, grown, true);
          context.clip();
        }
        // The parallelogram that shares the piece's middle lines.
        const u = [(b[0] + c[0] - a[0] - d[0]) / 2, (b[1] + c[1] - a[1] - d[1]) / 2];
        const v = [(d[0] + c[0] - a[0] - b[0]) / 2, (d[1] + c[1] - a[1] - b[1]) / 2];
        const x = (a[0] + b[0] + c[0] + d[0]) / 4 - (u[0] + v[0]) / 2;
        const y = (a[1] + b[1] + c[1] + d[1]) / 4 - (u[1] + v[1]) / 2;
        context.transform(u[0] / wide, u[1] / wide, v[0] / high, v[1] / high, x, y);
        // A little of the neighbouring piece too, which the clip cuts to measure.
        context.drawImage(picture, -i * wide, -j * high);
        context.restore();
      }
    }
  };

  // a and b: unit vectors that span its plane.
  const circle = (centre, radius, a, b) =>
    Array.from({ length: 73 }, (_, i) => {
      const turn = (i * Math.PI) / 36;
      return along(along(centre, radius * Math.cos(turn), a), radius * Math.sin(turn), b);
    });

  class Viewer {
    constructor(canvas) {
      this.canvas = canvas;
      this.context = canvas.getContext("2d");
      this.stage = JSON.parse(document.getElementById(canvas.dataset.stage).textContent);
      this.pictures = this.stage.frusta.map(({ picture }) => document.getElementById(picture));
      this.tools = canvas.parentElement.querySelectorAll("[data-action]");
      this.selected = null; // number of a view
      this.hovered = null;
      this.through = false; // looking through the selected view's camera
      this.showPictures = true;
      this.before = false; // showing the cameras as they were before they were moved
      this.targets = []; // polygons on the canvas, farthest first: what a click can hit
      this.reset();
      this.listen();
    }

    reset() {
      const eyes = this.stage.frusta.map(({ eye }) => eye);
      const mean = eyes.reduce((sum, eye) => along(sum, 1, unit(eye)), [0, 0, 0]);
      // All but a few cameras gone astray, and the sphere, fill the canvas.
      const far = eyes.map(length).sort((a, b) => a - b)[Math.floor(0.9 * (eyes.length - 1))];
      const usual = eyes.filter((eye) => length(eye) <= 1.5 * far);
      const box = [Math.min, Math.max].map((extreme) =>
        [0, 1, 2].map((i) => extreme(extreme(-1, 1), ...usual.map((eye) => eye[i]))),
      );
      const target = along([0, 0, 0], 0.5, along(box[0], 1, box[1]));
      const reach = Math.max(...usual.map((eye) => length(minus(eye, target))), 1.5);
      // From the side of the cameras, so that they stand beside the object and not before it.
      const azimuth = Math.atan2(mean[1], mean[0]) + 1.2;
      this.orbit = { azimuth, elevation: 0.4, distance: 2 * reach, target };
      this.farthest = 10 * this.orbit.distance;
      this.through = false;
      this.refresh();
    }

    get frusta() {
      return this.before ? this.stage.before : this.stage.frusta;
    }

    refresh() {
      if (this.pending) return;
      this.pending = requestAnimationFrame(() => {
        this.pending = 0;
        this.draw();
      });
    }

    get size() {
      const { width, height } = this.canvas.getBoundingClientRect(); // fractions of pixels too
      return [width, height];
    }

    get eye() {
      const through = this.through && this.selected !== null;
      return through
        ? eyeOfFrustum(this.frusta[this.selected], ...this.size)
        : eyeInOrbit(this.orbit, ...this.size);
    }

    draw() {
      const { canvas, context } = this;
      const [width, height] = this.size;
      const ratio = window.devicePixelRatio || 1;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      context.scale(canvas.width / width, canvas.height / height);
      context.lineJoin = "round";
      const style = getComputedStyle(canvas);
      this.colour = (name) => style.getPropertyValue(`--${name}`).trim();
      this.targets = [];
      const eye = this.eye;
      if (this.through) this.drawThrough(eye);
      else this.drawAround(eye);
      this.drawAxes(eye);
      this.tools.forEach((tool) => {
        const states = { through: this.through, pictures: this.showPictures, before: this.before };
        const pressed = states[tool.dataset.action];
        if (pressed !== undefined) tool.setAttribute("aria-pressed", String(pressed));
        tool.disabled = tool.dataset.action === "through" && this.selected === null;
      });
    }

    drawThrough(eye) {
      const { corners, name } = this.frusta[this.selected];
      if (this.showPictures) this.drawFace(this.selected, corners, eye);
      this.drawSphere(eye, true);
      this.drawPoints(eye, 0.7);
      this.drawSphere(eye, false);
      this.drawOutline(corners, eye);
      this.context.lineWidth = 2;
      this.context.strokeStyle = this.colour("accent");
      tracePath(this.context, corners.map((corner) => eye.see(corner)), true);
      this.context.stroke();
      this.drawName(name, [12, 24]);
    }

    // Cameras stand around the object: those behind its middle first, then it, then the others.
    drawAround(eye) {
      const order = this.frusta
        .map(({ corners }, view) => ({ view, depth: eye.see(middle(corners))[2] }))
        .sort((a, b) => b.depth - a.depth);
      const heart = eye.see([0, 0, 0])[2];
      order.filter(({ depth }) => depth >= heart).forEach(({ view }) => this.drawFrustum(view, eye));
      this.drawSphere(eye, true);
      this.drawPoints(eye, 1);
      this.drawSphere(eye, false);
      order.filter(({ depth }) => depth < heart).forEach(({ view }) => this.drawFrustum(view, eye));
      this.drawMoves(eye);
      for (const view of new Set([this.selected, this.hovered])) {
        if (view === null) continue;
        if (view === this.selected) this.drawFrustum(view, eye); // over all others
        const { corners, name } = this.frusta[view];
        const seen = corners.map((corner) => eye.see(corner));
        if (seen.every((point) => point[2] > NEAR)) {
          const left = Math.min(...seen.map((point) => point[0]));
          this.drawName(name, [left, Math.min(...seen.map((point) => point[1])) - 8]);
        }
      }
    }

    // Where each camera was, and the way it went.
    drawMoves(eye) {
      const { context } = this;
      context.strokeStyle = context.fillStyle = this.colour("moved");
      context.lineWidth = 2;
      this.stage.before.forEach(({ eye: start }, view) => {
        const ends = [start, this.stage.frusta[view].eye].map((point) => eye.see(point));
        if (!ends.every((point) => point[2] > NEAR)) return;
        tracePath(context, ends, false);
        context.stroke();
        const [x, y] = ends[0];
        context.beginPath();
        context.arc(x, y, 2.5, 0, 2 * Math.PI);
        context.fill();
      });
    }

    drawFrustum(view, eye) {
      const { context } = this;
      const { eye: apex, corners, doubtful } = this.frusta[view];
      const seen = corners.map((corner) => eye.see(corner));
      const tip = eye.see(apex);
      if (![tip, ...seen].every((point) => point[2] > NEAR)) return;
      const chosen = view === this.selected;
      if (this.showPictures || chosen) this.drawFace(view, corners, eye);
      context.strokeStyle = this.colour(chosen ? "accent" : doubtful ? "doubt" : "frustum");
      context.lineWidth = chosen ? 3 : doubtful || view === this.hovered ? 2 : 1;
      tracePath(context, seen, true);
      for (const corner of seen) {
        context.moveTo(tip[0], tip[1]);
        context.lineTo(corner[0], corner[1]);
      }
      context.stroke();
      for (let i = 0; i < 4; i += 1) {
        this.targets.push({ view, polygon: [tip, seen[i], seen[(i + 1) % 4]] });
      }
      this.targets.push({ view, polygon: seen });
    }

    drawFace(view, corners, eye) {
      const picture = this.pictures[view];
      if (picture?.complete && picture.naturalWidth) {
        drawPicture(this.context, picture, corners, eye);
      }
    }

    // The mask's outline, which lies over the picture in the page, over it here.
    drawOutline(corners, eye) {
      const outline = this.pictures[this.selected]?.parentElement.querySelector("svg.outline");
      if (!outline) return;
      const [a, b, , d] = corners.map((corner) => eye.see(corner));
      const { width, height } = outline.viewBox.baseVal;
      const { context } = this;
      const placed = new Path2D();
      placed.addPath(new Path2D(outline.firstElementChild.getAttribute("d")), {
        a: (b[0] - a[0]) / width, b: (b[1] - a[1]) / width,
        c: (d[0] - a[0]) / height, d: (d[1] - a[1]) / height,
        e: a[0], f: a[1],
      });
      context.lineWidth = 2;
      context.strokeStyle = this.colour("outline");
      context.stroke(placed);
    }

    drawSphere(eye, behind) {
      const { context } = this;
      const away = length(eye.position);
      if (away <= 1 + NEAR) return;
      const toward = unit(eye.position);
      const side = unit(Math.abs(toward[2]) < 0.9 ? cross(toward, [0, 0, 1]) : [1, 0, 0]);
      // What touches the sphere from the eye is a circle a little nearer than its middle.
      const touching = Math.sqrt(1 - 1 / away ** 2);
      const heart = along([0, 0, 0], 1 / away, toward);
      const outline = circle(heart, touching, side, cross(toward, side)).map((p) => eye.see(p));
      if (!outline.every((point) => point[2] > NEAR)) return;
      if (behind) {
        tracePath(context, outline, true);
        context.fillStyle = this.colour("sphere-fill");
        context.fill();
      }
      context.strokeStyle = this.colour("sphere");
      context.lineWidth = 1.25;
      context.globalAlpha = behind ? 0.35 : 1;
      const axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
      for (let i = 0; i < 3; i += 1) {
        const points = circle([0, 0, 0], 1, axes[i], axes[(i + 1) % 3]);
        for (let j = 0; j + 1 < points.length; j += 1) {
          // A point is on the near side where the sphere's outward normal there faces the eye.
          if (dot(points[j], minus(eye.position, points[j])) > 0 === behind) continue;
          tracePath(context, [eye.see(points[j]), eye.see(points[j + 1])], false);
          context.stroke();
        }
      }
      if (!behind) {
        tracePath(context, outline, true);
        context.stroke();
      }
      context.globalAlpha = 1;
    }

    drawPoints(eye, opacity) {
      const { context } = this;
      const { points, colours } = this.stage;
      const plain = this.colour("point");
      context.globalAlpha = opacity;
      points
        .map((point, i) => ({ seen: eye.see(point), i }))
        .filter(({ seen }) => seen[2] > NEAR)
        .sort((a, b) => b.seen[2] - a.seen[2])
        .forEach(({ seen: [x, y, depth], i }) => {
          const side = clamp((0.016 * eye.focal) / depth, 1.2, 5);
          context.fillStyle = colours.length ? `rgb(${colours[i].join(" ")})` : plain;
          context.fillRect(x - side / 2, y - side / 2, side, side);
        });
      context.globalAlpha = 1;
    }

    // The world's own axes in a corner: which of them the pictures call up.
    drawAxes(eye) {
      const { context } = this;
      const corner = [38, this.size[1] - 38];
      const tips = this.stage.axes[0].map((_, i) => this.stage.axes.map((row) => row[i]));
      context.font = "600 11px system-ui, sans-serif";
      context.textAlign = "center";
      context.textBaseline = "middle";
      tips
        .map((axis, i) => ({ axis, i, depth: dot(axis, eye.forward) }))
        .sort((a, b) => b.depth - a.depth)
        .forEach(({ axis, i }) => {
          const at = (reach) => [
            corner[0] + reach * dot(axis, eye.right), corner[1] + reach * dot(axis, eye.down),
          ];
          context.strokeStyle = context.fillStyle = this.colour(`axis-${"xyz"[i]}`);
          context.lineWidth = 2;
          tracePath(context, [corner, at(20)], false);
          context.stroke();
          context.fillText("xyz"[i], ...at(28));
        });
    }

    drawName(whole, [x, y]) {
      const { context } = this;
      const name = whole.length > 40 ? `${whole.slice(0, 18)}…${whole.slice(-18)}` : whole;
      context.font = "600 12px system-ui, sans-serif";
      context.textAlign = "left";
      context.textBaseline = "middle";
      const width = context.measureText(name).width + 12;
      const left = clamp(x, 4, Math.max(this.size[0] - width - 4, 4));
      const top = clamp(y, 14, this.size[1] - 14);
      context.fillStyle = this.colour("label");
      context.beginPath();
      context.roundRect(left, top - 10, width, 20, 4);
      context.fill();
      context.fillStyle = this.colour("label-text");
      context.fillText(name, left + 6, top + 1);
    }

    hit(point) {
      const found = this.targets.findLast(({ polygon }) => inPolygon(point, polygon));
      return found ? found.view : null;
    }

    turn(across, down) {
      this.through = false;
      this.orbit.azimuth -= across;
      this.orbit.elevation = clamp(this.orbit.elevation + down, -1.55, 1.55);
      this.refresh();
    }

    zoom(factor) {
      this.through = false;
      this.orbit.distance = clamp(this.orbit.distance * factor, 1.2, this.farthest);
      this.refresh();
    }

    move(across, down) {
      const { right, down: below, focal } = eyeInOrbit(this.orbit, ...this.size);
      const scale = -this.orbit.distance / focal;
      this.orbit.target = along(along(this.orbit.target, scale * across, right), scale * down, below);
      this.through = false;
      this.refresh();
    }

    lookThrough(yes) {
      this.through = yes && this.selected !== null;
      this.refresh();
    }

    // The next view after the chosen one, or the one before it.
    step(by) {
      const count = this.stage.frusta.length;
      const start = by > 0 ? -1 : 0;
      choose(((this.selected ?? start) + by + count) % count);
    }

    listen() {
      const { canvas } = this;
      const fingers = new Map();
      let travelled = 0;
      const place = (event) => [event.offsetX, event.offsetY];
      const spread = () => {
        const [[ax, ay], [bx, by]] = fingers.values();
        return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.hypot(ax - bx, ay - by) };
      };
      canvas.addEventListener("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        if (!fingers.size) travelled = 0;
        fingers.set(event.pointerId, place(event));
      });
      canvas.addEventListener("pointermove", (event) => {
        const last = fingers.get(event.pointerId);
        if (!last) {
          this.hover(this.hit(place(event)));
          return;
        }
        const before = fingers.size === 2 ? spread() : null;
        fingers.set(event.pointerId, place(event));
        const [across, down] = [event.offsetX - last[0], event.offsetY - last[1]];
        travelled += Math.abs(across) + Math.abs(down);
        if (travelled < 4) return; // a click's tremble
        if (before) {
          const after = spread();
          this.zoom(before.apart / Math.max(after.apart, 1));
          this.move(after.x - before.x, after.y - before.y);
        } else if (event.shiftKey) this.move(across, down);
        else this.turn(0.008 * across, 0.008 * down);
      });
      const lift = (event) => {
        if (!fingers.delete(event.pointerId) || event.type !== "pointerup") return;
        if (fingers.size || travelled >= 4) return;
        const view = this.hit(place(event));
        if (view !== null) choose(view);
      };
      canvas.addEventListener("pointerup", lift);
      canvas.addEventListener("pointercancel", lift);
      canvas.addEventListener("pointerleave", () => this.hover(null));
      canvas.addEventListener(
        "wheel",
        (event) => {
          event.preventDefault();
          // Lines or pages, in browsers that count so, made about as many pixels.
          const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
          this.zoom(Math.exp(clamp(pixels, -200, 200) * 0.0015));
        },
        { passive: false },
      );
      canvas.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        const actions = {
          ArrowLeft: () => this.turn(0.1, 0),
          ArrowRight: () => this.turn(-0.1, 0),
          ArrowUp: () => this.turn(0, 0.1),
          ArrowDown: () => this.turn(0, -0.1),
          "+": () => this.zoom(0.85),
          "=": () => this.zoom(0.85),
          "-": () => this.zoom(1 / 0.85),
          0: () => this.reset(),
          n: () => this.step(1),
          p: () => this.step(-1),
          Enter: () => this.lookThrough(true),
          Escape: () => (this.through ? this.lookThrough(false) : choose(null)),
        };
        if (!(event.key in actions)) return;
        event.preventDefault();
        actions[event.key]();
      });
      this.tools.forEach((tool) => {
        const actions = {
          reset: () => this.reset(),
          through: () => this.lookThrough(!this.through),
          pictures: () => {
            this.showPictures = !this.showPictures;
            this.refresh();
          },
          before: () => {
            this.before = !this.before;
            this.refresh();
          },
        };
        tool.addEventListener("click", actions[tool.dataset.action]);
      });
      document.addEventListener("view-selected", ({ detail }) => {
        this.selected = detail;
        if (detail === null) this.through = false;
        this.refresh();
      });
      window.addEventListener("load", () => this.refresh()); // pictures are decoded by then
      new ResizeObserver(() => this.refresh()).observe(canvas);
      for (const query of ["(prefers-color-scheme: dark)", `(resolution: ${devicePixelRatio}dppx)`]) {
        matchMedia(query).addEventListener("change", () => this.refresh());
      }
    }

    hover(view) {
      if (view === this.hovered) return;
      this.hovered = view;
      this.canvas.style.cursor = view === null ? "" : "pointer";
      this.refresh();
    }
  }

  document.querySelectorAll("canvas[data-stage]").forEach((canvas) => new Viewer(canvas));
})();
