// The part of the sidebar that the reader is in: unfolded, the others folded, and the page's entry in view.
(() => {
  "use strict";
  const sidebar = document.querySelector("#quarto-sidebar"), active = sidebar && sidebar.querySelector(".sidebar-link.active");
  if (!active) return;
  const show = () => { sidebar.scrollTop += active.getBoundingClientRect().top - sidebar.getBoundingClientRect().top - sidebar.clientHeight / 3; };
  show();
  window.addEventListener("load", show);
  document.querySelectorAll(".quarto-btn-toggle").forEach((button) => button.addEventListener("click", () => setTimeout(show, 400)));
})();

// Diagrams in the colours of the page, drawn again when the reader changes between light and dark.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = () => root.classList.contains("quarto-dark") || document.body.classList.contains("quarto-dark");
  const palettes = {
    light: { darkMode: false, background: "#fffdf9", primaryColor: "#eef3f4", primaryTextColor: "#22282c", primaryBorderColor: "#7d989f",
             lineColor: "#5d6b70", secondaryColor: "#f6efe2", tertiaryColor: "#faf7f0", noteBkgColor: "#f6efe2", noteTextColor: "#22282c", noteBorderColor: "#cbb68f", edgeLabelBackground: "#fffdf9" },
    dark: { darkMode: true, background: "#16191c", primaryColor: "#24333a", primaryTextColor: "#e4e2dc", primaryBorderColor: "#6f929c",
            lineColor: "#9fb0b5", secondaryColor: "#3a3325", tertiaryColor: "#1f2529", noteBkgColor: "#3a3325", noteTextColor: "#e4e2dc", noteBorderColor: "#8a7a57", edgeLabelBackground: "#16191c" },
  };
  const diagrams = Array.from(document.querySelectorAll("pre.mermaid")).map((pre) => {
    const box = document.createElement("div");
    box.className = "diagram";
    box.tabIndex = 0;  // it may scroll, and then the keyboard has to reach it
    pre.replaceWith(box);
    return { box, source: pre.textContent };
  });
  const draw = async () => {
    const name = dark() ? "dark" : "light";
    if (root.dataset.diagrams === name) return;
    root.dataset.diagrams = name;
    window.mermaid.initialize({
      startOnLoad: false, securityLevel: "strict", theme: "base", fontFamily: "inherit",
      themeVariables: { ...palettes[name], fontSize: "15px", fontFamily: getComputedStyle(diagrams[0].box).fontFamily },
      flowchart: { useMaxWidth: true, htmlLabels: true }, sequence: { useMaxWidth: true },
    });
    for (const [i, { box, source }] of diagrams.entries()) {
      const { svg } = await window.mermaid.render(`diagram-${i}-${name}`, source);
      box.innerHTML = svg;
      const drawing = box.querySelector("svg");
      drawing.style.minWidth = `calc(${drawing.style.maxWidth || "0px"} * .7)`;  // below that its words are too small to read: the box scrolls
    }
    root.dataset.diagramsDrawn = name;
  };
  if (!diagrams.length || !window.mermaid) return;
  const start = () => { draw(); new MutationObserver(draw).observe(root, { attributes: true, attributeFilter: ["class"] });
                        new MutationObserver(draw).observe(document.body, { attributes: true, attributeFilter: ["class"] }); };
  document.fonts && document.fonts.ready ? document.fonts.ready.then(start) : start();
})();
