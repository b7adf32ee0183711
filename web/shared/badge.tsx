export type Tone = 'good' | 'bad' | 'wait' | 'plain';

const marks: Record<Tone, string> = { good: '✓', bad: '✗', wait: '…', plain: '–' };

/** Says where something stands, in words and by a mark, so that nobody needs the colour. */
export function Badge({ tone, words }: { readonly tone: Tone; readonly words: string }) {
  return (
    <span class={`badge ${tone}`}>
      <span aria-hidden="true">{marks[tone]}</span>
      {words}
    </span>
  );
}

const domains: Record<string, { readonly tone: Tone; readonly words: string }> = {
  verified: { tone: 'good', words: 'Verified' },
  pending: { tone: 'wait', words: 'Pending' },
  failed: { tone: 'bad', words: 'Failed' },
};
const records: Record<string, { readonly tone: Tone; readonly words: string }> = {
  verified: { tone: 'good', words: 'In place' },
  missing: { tone: 'bad', words: 'Missing' },
  wrong: { tone: 'bad', words: 'Different' },
  propagating: { tone: 'wait', words: 'Spreading' },
  not_checked: { tone: 'plain', words: 'Not checked yet' },
};

export const DomainStatus = ({ status }: { readonly status: string }) => (
  <Badge {...(domains[status] ?? { tone: 'plain', words: status })} />
);
export const RecordStatus = ({ status }: { readonly status: string }) => (
  <Badge {...(records[status] ?? { tone: 'plain', words: status })} />
);
