/** Formats a time in UTC with seconds precision, as the product guide shows times. */
export const shown = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`;
