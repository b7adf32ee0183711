import fc from 'fast-check';
import { anyCharacter } from './characters';

/** Texts that do something to a terminal, a line, the direction of a text, HTML, or who uses them as a name. */
export const hostilePieces = [
  '\n',
  '\r\n',
  '\r\n\r\nHTTP/1.1 200 OK\r\n',
  '\x1b]0;x\x07',
  '\x1b[2J',
  '\x7f',
  '\x85',
  '\x9b2J',
  '\u061c',
  '\u200b',
  '\u202e',
  '\u2028',
  '\u2029',
  '\u2066',
  '\ufeff',
  '\u{e0041}',
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  '&amp;',
  "' OR 1=1 --",
  '__proto__',
  'constructor',
  '../../etc/passwd',
  '{"level":60,"msg":"x"}\n{"level":60,',
  'x" } 1\nsendmux_up 0\n',
] as const;

/** Hidden characters, which none of our output for people has as they are. */
export const hidden = /[\p{C}\p{Zl}\p{Zp}]/u;

/** Texts made of hostile pieces among others. */
export const hostileText = fc
  .array(fc.oneof(fc.constantFrom(...hostilePieces), fc.string({ unit: anyCharacter }), fc.string()), { maxLength: 8 })
  .map((parts) => parts.join(''));
