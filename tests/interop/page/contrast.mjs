// Runs in the page: texts whose colour is too near to what is behind them (WCAG 2.2, 1.4.3: 4.5 to 1).
export function contrasts() {
  const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  // What is faded mixes with what is behind it.
  const faded = (element) => {
    let opacity = 1;
    for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
    return opacity;
  };
  const isText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== '');
  const shown = [...document.body.querySelectorAll('*')].filter((element) => isText(element) && element.checkVisibility() && !element.disabled && !element.closest('noscript, .visually-hidden'));
  return shown.flatMap((element) => {
    const [back, opacity] = [behind(element), faded(element)];
    const front = parts(getComputedStyle(element).color).slice(0, 3).map((c, at) => c * opacity + back[at] * (1 - opacity));
    const [high, low] = [light(front), light(back)].sort((one, other) => other - one);
    const ratio = (high + 0.05) / (low + 0.05);
    return ratio < 4.5 ? [`${element.textContent.trim().slice(0, 30)}: ${ratio.toFixed(1)}`] : [];
  });
}
