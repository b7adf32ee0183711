/** Makes the envelope of a successful answer. */
export const success = (data: object, requestId: string) => ({ ok: true, data, meta: { request_id: requestId } });
