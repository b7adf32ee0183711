import { useState } from 'preact/hooks';
import { announce } from '../shared/announce';
import { ask, type FaultList } from './api';
import { useAsked } from './use-asked';

const names: Readonly<Record<string, string>> = {
  ses: 'Amazon SES',
  'doh-a': 'The first resolver',
  'doh-b': 'The second resolver',
  smtp: 'The mail server of the owners',
};

export function FaultsSection() {
  const { answer, fault, reload } = useAsked<FaultList>('/faults');
  const [refusal, setRefusal] = useState<string>();

  async function choose(api: string, mode: string): Promise<void> {
    try {
      await (mode === '' ? ask('DELETE', `/faults/${api}`) : ask('PUT', `/faults/${api}`, { mode }));
      setRefusal(undefined);
      announce(`${names[api] ?? api}: ${mode === '' ? 'well again' : mode}.`);
    } catch (error) {
      setRefusal((error as Error).message);
    }
    await reload();
  }
  return (
    <section class="card" aria-labelledby="faults">
      <h2 id="faults">Faults</h2>
      <p class="quiet">What a counterpart does wrong until you switch it off.</p>
      {(refusal ?? fault) && (
        <p class="note bad" role="alert">
          {refusal ?? fault}
        </p>
      )}
      {answer && (
        <div class="row">
          {Object.entries(answer.modes).map(([api, modes]) => (
            <div key={api} class="wide">
              <label for={`fault-${api}`}>{names[api] ?? api}</label>
              <select
                id={`fault-${api}`}
                value={answer.active[api]?.mode ?? ''}
                onChange={({ currentTarget }) => void choose(api, currentTarget.value)}
              >
                <option value="">works</option>
                {modes.map((mode) => (
                  <option key={mode}>{mode}</option>
                ))}
              </select>
            </div>
          ))}
        </div>
      )}
    </section>
  );
}
