/** Whether granted permissions include one that is needed; `domain.*` includes every `domain.…`. */
export const allows = (granted: readonly string[], needed: string): boolean =>
  granted.includes(needed) || granted.includes(`${needed.slice(0, needed.indexOf('.'))}.*`);
