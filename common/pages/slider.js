"use strict";
// Moves the divider of two pictures with mouse, finger or arrow keys; a group's dividers together.

(() => {
  const inputs = [...document.querySelectorAll(".slider input")];

  const place = (input, value) => {
    input.value = value;
    input.parentElement.style.setProperty("--at", `${value}%`);
  };

  inputs.forEach((input) => {
    const { group } = input.dataset;
    const together = group ? inputs.filter((other) => other.dataset.group === group) : [input];
    input.addEventListener("input", () => together.forEach((other) => place(other, input.value)));
  });
})();
