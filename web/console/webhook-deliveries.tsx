import { useState } from 'preact/hooks';
import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Badge, type Tone } from '../shared/badge';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Outside, Prose, Value } from '../shared/value';
import { List } from './parts';
import { useMay, useSession } from './session';
import { useAction, useLoaded, usePages } from './use-api';

type Delivery = Schemas['DeliverySchema'];

const results: Record<string, { readonly tone: Tone; readonly words: string }> = {
  success: { tone: 'good', words: 'Delivered' },
  retrying: { tone: 'wait', words: 'Waiting' },
  failed: { tone: 'bad', words: 'Failed' },
};
const lanes: Record<string, string> = { replay: 'replay', requested: 'on request' };

/** Shows what was sent to a webhook within 30 days, how each try ended, and sends it again. */
export function DeliveriesSection({ id }: { readonly id: string }) {
  const { api } = useSession();
  const may = useMay();
  const [result, setResult] = useState('');
  const [open, setOpen] = useState<string>();
  const { run, failure, isBusy } = useAction();
  const pages = usePages(
    (cursor) =>
      answerTo(
        api.GET('/webhooks/{id}/deliveries', {
          params: {
            path: { id },
            query: { cursor, ...(result !== '' && { result: result as 'success' | 'retrying' | 'failed' }) },
          },
        }),
      ),
    [api, id, result],
  );
  const again = (delivery: Delivery): void =>
    void run(async () => {
      const params = { path: { id, delivery_id: delivery.id } };
      await answerTo(api.POST('/webhooks/{id}/deliveries/{delivery_id}/redeliver', { params }));
      announce('It is being sent again.');
      await pages.reload();
    });
  return (
    <section class="stack" aria-labelledby="deliveries">
      <h2 id="deliveries">Deliveries</h2>
      <div class="row">
        <div>
          <label for="result">Show</label>
          <select id="result" value={result} onChange={({ currentTarget }) => setResult(currentTarget.value)}>
            <option value="">all</option>
            {Object.entries(results).map(([each, { words }]) => (
              <option key={each} value={each}>
                {words.toLowerCase()}
              </option>
            ))}
          </select>
        </div>
        <button type="button" onClick={() => void pages.reload()}>
          Read again
        </button>
      </div>
      {failure && <Problem failure={failure} />}
      <List pages={pages} empty={<p class="note">Nothing was sent to it in the last 30 days.</p>}>
        {(deliveries) => (
          <table>
            <caption class="unseen">Deliveries, the newest first</caption>
            <thead>
              <tr>
                <th scope="col">Event</th>
                <th scope="col">Result</th>
                <th scope="col">Last try</th>
                <th scope="col">Next try</th>
                <th scope="col">More</th>
              </tr>
            </thead>
            <tbody>
              {deliveries.map((delivery) => [
                <tr key={delivery.id}>
                  <th scope="row">
                    <Outside text={delivery.event_type} />{' '}
                    {lanes[delivery.lane] !== undefined && <span class="quiet small">({lanes[delivery.lane]})</span>}
                    <div class="quiet small">
                      <Value text={delivery.event_id} />
                    </div>
                  </th>
                  <td>
                    <Badge {...(results[delivery.result] ?? { tone: 'plain', words: delivery.result })} />
                  </td>
                  <td data-label="Last try">
                    {delivery.attempted_at === null ? (
                      'none yet'
                    ) : (
                      <>
                        {delivery.delivery_attempt} of {delivery.max_attempts}, {shownTime(delivery.attempted_at)}
                      </>
                    )}
                  </td>
                  <td data-label="Next try">
                    {delivery.next_retry_at === null ? '–' : shownTime(delivery.next_retry_at)}
                  </td>
                  <td class="actions">
                    <button
                      type="button"
                      aria-expanded={open === delivery.id}
                      aria-label={`Details of ${delivery.event_type} ${delivery.event_id}`}
                      onClick={() => setOpen(open === delivery.id ? undefined : delivery.id)}
                    >
                      Details
                    </button>
                    {may('webhook.update') && (
                      <button
                        type="button"
                        disabled={isBusy}
                        aria-label={`Send again ${delivery.event_type} ${delivery.event_id}`}
                        onClick={() => again(delivery)}
                      >
                        Send again
                      </button>
                    )}
                  </td>
                </tr>,
                open === delivery.id && (
                  <tr key={`${delivery.id} details`}>
                    <td colSpan={5}>
                      <Details webhook={id} delivery={delivery} />
                    </td>
                  </tr>
                ),
              ])}
            </tbody>
          </table>
        )}
      </List>
    </section>
  );
}

function Details({ webhook, delivery }: { readonly webhook: string; readonly delivery: Delivery }) {
  const { api } = useSession();
  const payload = useLoaded(
    () =>
      answerTo(
        api.GET('/webhooks/{id}/deliveries/{delivery_id}/payload', {
          params: { path: { id: webhook, delivery_id: delivery.id } },
        }),
      ),
    [api, webhook, delivery.id],
  );
  return (
    <div class="stack">
      {delivery.error_message !== null && (
        <p>
          <Prose text={delivery.error_message} />
        </p>
      )}
      {delivery.response_status !== null && (
        <p>
          Answered {delivery.response_status}
          {delivery.response_ms !== null && <> after {delivery.response_ms} ms</>}
          {delivery.response_body ? (
            <>
              : <Value text={delivery.response_body} />
            </>
          ) : (
            ', without a body'
          )}
        </p>
      )}
      {payload.failure && <Problem failure={payload.failure} />}
      {payload.value && (
        <pre class="value whole" tabIndex={0} role="group" aria-label="What is sent">
          {JSON.stringify(payload.value.data.payload, null, 2)}
        </pre>
      )}
    </div>
  );
}
