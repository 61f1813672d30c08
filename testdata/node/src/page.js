// Says how long the page took.
export function report ( clock ) {
  const elapsed = clock.now();
  return "loaded in " + elapsed;
}
