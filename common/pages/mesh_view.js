"use strict";
// Hands the page's meshes to their viewer: in their colours, or as grey clay under a lamp.

(() => {
  const CLAY = {
    pbrMetallicRoughness: {
      baseColorFactor: [0.33, 0.33, 0.36, 1], metallicFactor: 0, roughnessFactor: 0.7,
    },
  };

  const decoded = (identifier) =>
    Uint8Array.from(atob(document.getElementById(identifier).textContent), (c) => c.charCodeAt(0));

  // The same file with every surface of clay; a GLB is a header, its JSON, and the rest.
  const inClay = (file) => {
    const size = new DataView(file.buffer).getUint32(12, true);
    const scene = JSON.parse(new TextDecoder().decode(file.subarray(20, 20 + size)));
    scene.materials = [CLAY];
    for (const { primitives } of scene.meshes) {
      for (const primitive of primitives) {
        primitive.material = 0;
        delete primitive.attributes.COLOR_0;
      }
    }
    const words = new TextEncoder().encode(JSON.stringify(scene));
    const head = new Uint8Array(words.length + (-words.length & 3)).fill(32);
    head.set(words);
    const rest = file.subarray(20 + size);
    const made = new Uint8Array(20 + head.length + rest.length);
    made.set(file.subarray(0, 20));
    made.set(head, 20);
    made.set(rest, 20 + head.length);
    const view = new DataView(made.buffer);
    view.setUint32(8, made.length, true);
    view.setUint32(12, head.length, true);
    return made;
  };

  const press = (buttons, pressed) =>
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === pressed)));

  document.querySelectorAll("[data-mesh-view]").forEach((block) => {
    const viewer = block.querySelector("model-viewer");
    const meshes = [...block.querySelectorAll("[data-mesh]")];
    const looks = [...block.querySelectorAll("[data-look]")];
    const turning = block.querySelector("[data-turn]");
    let number = 0;
    let look = "colours";
    let address = "";

    const show = () => {
      const file = decoded(`${block.dataset.meshView}-${number}`);
      const shown = look === "shape" ? inClay(file) : file;
      URL.revokeObjectURL(address);
      address = URL.createObjectURL(new Blob([shown], { type: "model/gltf-binary" }));
      viewer.setAttribute("src", address);
    };

    const turn = (yes) => {
      viewer.toggleAttribute("auto-rotate", yes);
      turning.setAttribute("aria-pressed", String(yes));
    };

    meshes.forEach((button, index) => {
      button.addEventListener("click", () => {
        number = index;
        press(meshes, button);
        show();
      });
    });
    looks.forEach((button) => {
      button.addEventListener("click", () => {
        look = button.dataset.look;
        press(looks, button);
        show();
      });
    });
    turning.addEventListener("click", () => turn(!viewer.hasAttribute("auto-rotate")));
    turn(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    show();
  });
})();
