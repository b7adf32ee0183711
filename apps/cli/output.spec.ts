import { Command } from 'commander';
import { print } from './output';

/** Gives what is printed for lines. */
function printed(lines: readonly string[]): string {
  const written: string[] = [];
  const spy = jest.spyOn(process.stdout, 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    print(new Command(), {}, () => lines);
  } finally {
    spy.mockRestore();
  }
  return written.join('');
}

it('what a customer has written does not reach the terminal as a command, nor turn the text around', () => {
  expect(printed(['a\x1b]0;pwned\x07\x1b[2Jb', 'c\u202egpj.exe', 'd\u009b2Je\u007f', 'f\rg\u2028h'])).toBe(
    'a\\u{1b}]0;pwned\\u{7}\\u{1b}[2Jb\nc\\u{202e}gpj.exe\nd\\u{9b}2Je\\u{7f}\nf\\u{d}g\\u{2028}h\n',
  );
});

it('text of any script is printed as it is', () =>
  expect(printed(['Grüße, 東京 😀', '  two  lines\nin one'])).toBe('Grüße, 東京 😀\n  two  lines\nin one\n'));
