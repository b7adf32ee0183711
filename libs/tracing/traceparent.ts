/** A `traceparent` as this product writes it (W3C Trace Context, section 3.2): version 00, in lower case. */
const form = /^00-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}$/;

/** Gives a text that was stored or received back if it is a `traceparent` of this product; undefined for any other. */
export const knownTraceparent = (text: string | null | undefined): string | undefined =>
  typeof text === 'string' && form.test(text) ? text : undefined;
