/** Names slips that happen with any TXT record. */

/** Undoes the escapes of master files (RFC 1035 section 5.1): `\;` is a semicolon, and so is `\059`. */
export const unescaped = (text: string): string =>
  text.replace(/\\(?:([01]\d\d|2[0-4]\d|25[0-5])|([^]))/g, (_, octet: string | undefined, character: string) =>
    octet === undefined ? character : String.fromCharCode(Number(octet)),
  );

/** Says that a value has the escapes of a master file in it. */
export const backslashFault = (value: string): string =>
  `The value has a backslash in it (shown as \\092), as if it came from a zone file. Your DNS provider does not read escapes: enter ${value} without the backslash.`;
