import { Command } from 'commander';
import { print, printJson, say } from './output';

/** Gives what is printed. */
function printed(run: () => void, stream: 'stdout' | 'stderr' = 'stdout'): string {
  const written: string[] = [];
  const spy = jest.spyOn(process[stream], 'write').mockImplementation((text) => written.push(String(text)) > 0);
  try {
    run();
  } finally {
    spy.mockRestore();
  }
  return written.join('');
}

const hostile = ['a\x1b]0;pwned\x07\x1b[2Jb', 'c\u202egpj.exe', 'd\u009b2Je\u007f', 'f\rg\u2028h', 'i\nBAD  j'];
const escaped = [
  'a\\u{1b}]0;pwned\\u{7}\\u{1b}[2Jb',
  'c\\u{202e}gpj.exe',
  'd\\u{9b}2Je\\u{7f}',
  'f\\u{d}g\\u{2028}h',
  'i\\u{a}BAD  j',
];

describe('what a customer has written does not reach the terminal as a command, nor turn or end its line', () => {
  it('in lines', () => expect(printed(() => print(new Command(), {}, () => hostile))).toBe(`${escaped.join('\n')}\n`));

  it('in an explanation or an error', () =>
    hostile.forEach((text, i) => expect(printed(() => say(text), 'stderr')).toBe(`${escaped[i]}\n`)));

  it('in JSON, which is the same value', () => {
    const text = printed(() => printJson({ hostile }));
    expect(text).toMatch(/^[\x20-\x7e]+\n$/);
    expect(JSON.parse(text)).toEqual({ hostile });
  });
});

it('text of any script is printed as it is', () => {
  const lines = ['Grüße, 東京 😀', '  two  lines'];
  expect(printed(() => print(new Command(), {}, () => lines))).toBe(`${lines.join('\n')}\n`);
});
