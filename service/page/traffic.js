// Stands in until GET /traffic is there.
export const trafficView = { show() {} };
