import { Findings, type Difference, type Kind } from './findings';

const difference = (kind: Kind): Difference => ({ area: 'ses', kind, what: 'a.example', log: '', there: '' });
const repairs = (done: string[]) => ({
  fromLog: () => Promise.resolve(void done.push('from the log')),
  adopt: () => Promise.resolve(void done.push('adopted')),
  delete: () => Promise.resolve(void done.push('deleted')),
});

describe('what is found to differ from the log', () => {
  it.each([
    ['missing', true, 'keep', ['from the log']],
    ['missing', false, 'delete', []],
    ['lost', true, 'keep', []],
    ['lost', true, 'adopt', ['adopted']],
    ['lost', false, 'delete', ['deleted']],
  ] as const)('%s, from the log: %s, lost: %s: %j', async (kind, fromLog, lost, expected) => {
    const done: string[] = [];
    const findings = new Findings({ fromLog, lost }, 10);
    await findings.take(difference(kind), repairs(done));
    expect(done).toEqual(expected);
    expect(findings.outcome()).toMatchObject({ remaining: expected.length > 0 ? 0 : 1, repaired: expected.length });
  });

  it('leaves what is foreign alone, and counts all but shows some', async () => {
    const findings = new Findings({ fromLog: true, lost: 'delete' }, 2);
    for (let n = 0; n < 3; n++) await findings.take(difference('foreign'));
    const { counts, shown, remaining } = findings.outcome();
    expect({ counts, shown: shown.length, remaining }).toEqual({
      counts: { ses: { foreign: 3 } },
      shown: 2,
      remaining: 0,
    });
  });
});
