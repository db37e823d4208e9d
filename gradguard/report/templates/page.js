"use strict";
(() => {
  const findings = [...document.querySelectorAll(".finding")];
  const form = document.querySelector(".filter");
  if (form) {
    form.hidden = false;
    const words = form.querySelector("#words");
    const output = form.querySelector("output");
    const texts = findings.map((finding) => finding.textContent.toLowerCase());
    const sift = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const severities = new Set(
        [...form.querySelectorAll("[name=severity]:checked")].map((box) => box.value));
      let left = 0;
      findings.forEach((finding, number) => {
        const shown = severities.has(finding.dataset.severity) &&
          wanted.every((word) => texts[number].includes(word));
        finding.hidden = !shown;
        left += shown;
      });
      output.textContent = left === findings.length ? "" : `${left} of ${findings.length} shown`;
    };
    form.addEventListener("input", sift);
    form.addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === words) {
        if (event.key === "Escape") words.blur();
        return;
      }
      if (event.key === "/") {
        event.preventDefault();
        words.focus();
      } else if (event.key === "j" || event.key === "k") {
        const shown = findings.filter((finding) => !finding.hidden);
        const at = shown.indexOf(document.activeElement.closest(".finding"));
        const next = event.key === "j" ? at + 1 : at < 0 ? shown.length - 1 : at - 1;
        if (shown[next]) {
          shown[next].focus({ preventScroll: true });
          shown[next].scrollIntoView({ block: "start" });
        }
      }
    });
  }
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
  });
})();
