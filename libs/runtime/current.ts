/** A value, or what gives it each time that it is used, where it may change while the process runs. */
export type Current<T> = T | (() => T);

/** Gives the value as it is now. */
export const currentOf = <T extends string | object>(value: Current<T>): T =>
  typeof value === 'function' ? (value as () => T)() : value;
