// What the parts of the console share: elements, and how a number is written. Texts go into textContent, never into HTML.
export const $ = (id) => document.getElementById(id);
export const LETTERS = "ABCDEFGH";

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export const fixed = (value, digits = 4) => (value === null || value === undefined ? "–" : value.toFixed(digits));
export const whole = (value) => Math.round(value).toLocaleString("en");
export const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);

export function bar(share) {
  const inner = make("i");
  inner.style.width = `${100 * Math.min(1, share)}%`;
  const outer = make("span", { className: "bar" }, inner);
  outer.setAttribute("aria-hidden", "true");
  return outer;
}

export async function copy(text, place) {
  try {
    await navigator.clipboard.writeText(text);
    place.textContent = "Copied.";
  } catch { // on plain HTTP but for this machine browsers have no clipboard
    place.textContent = text;
  }
}
