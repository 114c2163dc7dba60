// Flipping between samples, methods and layers. Without this script every map of every sample is shown.
(() => {
  "use strict";
  const controls = document.getElementById("controls");
  if (!controls) return;
  const sampleSelect = document.getElementById("sample");
  const methodSelect = document.getElementById("method");
  const layerSelect = document.getElementById("layer");
  const opacity = document.getElementById("opacity");
  const all = document.getElementById("all");
  const own = document.getElementById("own");
  const samples = Array.from(document.querySelectorAll("article.sample"));
  const layersOf = new Map();
  let isOn = true;

  document.querySelectorAll(".look").forEach((look) => {
    const method = look.querySelector("strong").textContent;
    const code = look.querySelector("code");
    if (!layersOf.has(method)) layersOf.set(method, new Map());
    layersOf.get(method).set(look.dataset.key, code ? code.textContent : "");
  });

  const isAll = () => all.getAttribute("aria-pressed") === "true";

  function fillLayers(wanted) {
    const layers = layersOf.get(methodSelect.value) || new Map();
    layerSelect.replaceChildren();
    layers.forEach((layer, key) => {
      const option = document.createElement("option");
      option.value = key;
      option.textContent = layer || "all of them";
      layerSelect.append(option);
      if (layer && layer === wanted) layerSelect.value = key;
    });
    layerSelect.disabled = layers.size < 2;
  }

  function show() {
    samples.forEach((sample) => {
      sample.hidden = sample.id !== sampleSelect.value;
      const list = sample.querySelector(".looks");
      list.classList.toggle("one", !isAll());
      let shown = 0;
      list.querySelectorAll(".look").forEach((look) => {
        look.hidden = !isAll() && look.dataset.key !== layerSelect.value;
        shown += look.hidden ? 0 : 1;
      });
      // Samples explained at another time may have other methods and layers.
      const absent = sample.querySelector("[data-absent]");
      absent.hidden = shown > 0;
      absent.textContent = `This sample has no map by ${methodSelect.value} at this layer. "All maps" shows those it has.`;
    });
    document.getElementById("before").disabled = sampleSelect.selectedIndex === 0;
    document.getElementById("after").disabled = sampleSelect.selectedIndex === samples.length - 1;
  }

  function fade() {
    const share = isOn ? Number(opacity.value) / 100 : 0;
    document.querySelectorAll(".over").forEach((map) => {
      // Maps with signs let the picture through where they are near zero; they bear a stronger tone.
      const isSigned = map.closest(".look").dataset.signed === "1";
      map.style.opacity = String(isSigned ? Math.min(1, share * 1.6) : share);
    });
  }

  function step(select, by, wrap) {
    const count = select.options.length;
    const next = select.selectedIndex + by;
    if (!wrap && (next < 0 || next >= count)) return;
    select.selectedIndex = (next + count) % count;
    select.dispatchEvent(new Event("change"));
  }

  function chooseMethod() {
    const option = layerSelect.selectedOptions[0];
    fillLayers(option ? option.textContent : "");
    show();
  }

  function toggleAll() {
    all.setAttribute("aria-pressed", String(!isAll()));
    show();
  }

  function toggleScales() {
    const isOwn = own.getAttribute("aria-pressed") !== "true";
    own.setAttribute("aria-pressed", String(isOwn));
    document.querySelectorAll(".over[data-own]").forEach((map) => {
      const shown = map.src;
      map.src = map.dataset.own;
      map.dataset.own = shown;
      map.closest(".look").querySelectorAll("[data-shared]").forEach((end, place) => {
        end.textContent = isOwn ? ["each its least", "each its most"][place] : end.dataset.shared;
      });
    });
  }

  function toggleMap() {
    isOn = !isOn;
    fade();
  }

  const keys = {
    ArrowLeft: () => step(sampleSelect, -1, false),
    ArrowRight: () => step(sampleSelect, 1, false),
    m: () => step(methodSelect, 1, true),
    l: () => step(layerSelect, 1, true),
    a: toggleAll,
    o: toggleMap,
    s: toggleScales,
  };

  sampleSelect.addEventListener("change", show);
  methodSelect.addEventListener("change", chooseMethod);
  layerSelect.addEventListener("change", show);
  opacity.addEventListener("input", () => { isOn = true; fade(); });
  all.addEventListener("click", toggleAll);
  own.addEventListener("click", toggleScales);
  document.getElementById("before").addEventListener("click", keys.ArrowLeft);
  document.getElementById("after").addEventListener("click", keys.ArrowRight);
  controls.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const inField = event.target.closest && event.target.closest("select, input, textarea");
    if (inField || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });

  function openAsked() {
    const asked = samples.find((sample) => `#${sample.id}` === window.location.hash);
    if (asked) sampleSelect.value = asked.id;
    show();
  }

  window.addEventListener("hashchange", openAsked);
  controls.hidden = false;
  fillLayers("");
  fade();
  openAsked();
})();
